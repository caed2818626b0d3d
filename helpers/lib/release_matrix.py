"""What helpers/release-matrix knows of test reports: reads JUnit's, and writes the table. Runs nothing."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import junit

_SAID = re.compile(r"^sysenv-ns: (.*)$", re.MULTILINE)
_HEAD = """\
# Which releases: parts of the suite on each

Made by `helpers/release-matrix` on {date}: minimal systems made with debootstrap, with Python, git and the
programs that tests use, all of them on Linux {kernel} (other kernels: [kernels](kernels.md)). Unit and CLI tests run as
an ordinary user of the system, the others as root, with users of their own, as `helpers/test` does. A cell has the
numbers of tests that passed, failed and were skipped; in brackets, the reasons below.

    ./helpers/release-matrix --write docs/releases.md
"""
_CALL = re.compile(r": \[.*", re.DOTALL)  # of a command that was tried, with its output


@dataclass(frozen=True)
class Result:
    """What one part of the suite came to on one release; `trouble` says why there is no report."""

    release: str
    part: str
    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)  # how many for which reason
    trouble: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing failed."""
        return not self.failed and not self.trouble


def read(release: str, part: str, report: Path) -> Result:
    """The result that a JUnit report has."""
    cases = list(junit.cases(report))
    passed = sum(case.kind == "passed" for case in cases)
    failed = tuple(f"{case.where.rpartition('.')[2]}: {case.name}" for case in cases if case.kind == "failed")
    skipped = Counter(_reason(case.message) for case in cases if case.kind == "skipped")
    return Result(release, part, passed, failed, dict(skipped))


def _reason(message: str) -> str:
    """One line; of a mode that does not work, the tool's own first sentence."""
    first = _CALL.sub("", message).partition("\n")[0]
    said = _SAID.search(message)
    return f"{first}: {said[1]}" if said else first


def document(systems: Mapping[str, str], parts: Sequence[str], results: Sequence[Result], kernel: str) -> str:
    """The page: a row for each release, which `systems` describes, and a column for each part."""
    found = {(result.release, result.part): result for result in results}
    reasons: dict[str, int] = {}
    lines = [f"| release | {' | '.join(parts)} |", "|---|" + "---|" * len(parts)]
    for release, description in systems.items():
        cells = [_cell(found.get((release, part)), reasons) for part in parts]
        lines.append(f"| {description} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    failures = list(_failures(results))
    return (
        "\n".join(
            [
                _HEAD.format(date=time.strftime("%Y-%m-%d"), kernel=kernel),
                *lines,
                "",
                *([*notes, ""] if notes else []),
                *(["Failed:", "", *failures] if failures else []),
            ]
        ).rstrip()
        + "\n"
    )


def _cell(result: Result | None, reasons: dict[str, int]) -> str:
    if result is None:
        return "not run"
    if result.trouble:
        return "**no report**"
    numbers = sorted(reasons.setdefault(reason, len(reasons) + 1) for reason in result.skipped)
    failed = f"**{len(result.failed)} failed**" if result.failed else "0 failed"
    skipped = f"{sum(result.skipped.values())} skipped" + (f" ({', '.join(map(str, numbers))})" if numbers else "")
    return f"{result.passed} passed, {failed}, {skipped}"


def _failures(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        if result.trouble:
            yield f"- {result.release}, {result.part}: {result.trouble}"
        yield from (f"- {result.release}, {result.part}: {name}" for name in result.failed)
