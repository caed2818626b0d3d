#!/usr/bin/python3
"""What helpers/test --summary records: runs the tests, keeps what came of them, and writes docs/test-matrix.md.

All that was recorded counts, each test as it was the last time, so that the full matrix can be run in pieces. Run with
the Python of the tests. The first argument are pytest's options for workers, the others go to pytest too.
"""

from __future__ import annotations

import collections
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import junit

CHECKOUT = Path(__file__).resolve().parents[2]
SUMMARY = CHECKOUT / "docs" / "test-matrix.md"
RECORDS = CHECKOUT / ".test-matrix"  # a JUnit report of each run
KERNELS = CHECKOUT / "helpers" / "kernel-matrix"
KERNEL_PROGRAMS = ("qemu-system-x86_64", "debootstrap", "mke2fs", "busybox", "zstd")
MODES = ("full", "single", "root", "disk", "idmap", "fuse", "sudo")
NO_MODE = "none"
_IN_MODES = ("tests/integration/", "tests/security/")  # the tests of the others know no modes, and are many
_MODE = re.compile(rf"\[({'|'.join(MODES)})\b")
_HEAD = """\
# The full matrix

Written by `helpers/test --summary`: what came of the runs that it recorded, each test as it was the last time.
`helpers/test --all` is the full matrix: every test in all its [modes](tests.md#modes), and loops at their full length;
kernels have [a document of their own](kernels.md).
"""


@dataclass(frozen=True)
class Instance:
    """A test in one of its modes, with one set of parameters."""

    file: str
    name: str

    @property
    def mode(self) -> str:
        """What its parameters begin with."""
        found = _MODE.search(self.name) if self.file.startswith(_IN_MODES) else None
        return found[1] if found else NO_MODE

    @property
    def row(self) -> str:
        """Where the table has it."""
        name = self.file if self.file.startswith(_IN_MODES) else self.file.rpartition("/")[0]
        return name.removeprefix("tests/")


@dataclass(frozen=True)
class Outcome:
    """What came of a test: "passed", "failed" or "skipped", and why."""

    kind: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """A recorded run: when it was, of which commit, on which kernel, and its outcomes."""

    when: str
    commit: str
    kernel: str
    outcomes: dict[Instance, Outcome]


def read(report: Path) -> Run:
    """A recorded run; its file's name tells what a report does not: commit and kernel."""
    when, commit, kernel = report.stem.split(" ")
    outcomes = {}
    for case in junit.cases(report):
        test = Instance(case.where.replace(".", "/") + ".py", case.name)
        outcomes[test] = Outcome(case.kind, " ".join(case.message.split())[:200], case.seconds)
    return Run(when, commit, kernel, outcomes)


def record(options: list[str]) -> int:
    """Run tests and keep the report; gives pytest's status."""
    RECORDS.mkdir(exist_ok=True)
    commit = _git("describe", "--always") or "unknown"
    if _git("status", "--porcelain", "--untracked-files=no", "--", f":!{SUMMARY.relative_to(CHECKOUT)}"):
        commit += "-dirty"
    report = RECORDS / f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {commit} {platform.release()}.xml"
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}"]
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode


def _git(*arguments: str) -> str:
    """What git says of the checkout; nothing where it is not one of git's."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()


def collected() -> set[Instance]:
    """All that the full matrix has."""
    command = [sys.executable, "-m", "pytest", "--all", "--collect-only", "-q", "-n", "0"]
    lines = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {Instance(*line.split("::", 1)) for line in lines if "::" in line}


def run_kernels() -> bool:
    """Run helpers/kernel-matrix where a machine has what that needs; whether it is good."""
    missing = [name for name in KERNEL_PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        print(f"the kernels are not run: {', '.join(missing) or 'root'} is missing here")
        return True
    return subprocess.run([KERNELS, "--write", CHECKOUT / "docs/kernels.md"], check=False).returncode == 0


def text(runs: list[Run], tests: set[Instance]) -> str:
    """The summary of these runs, the earliest first, and of the tests that there are."""
    last = {test: outcome for run in runs for test, outcome in run.outcomes.items() if test in tests}
    kinds = collections.Counter(outcome.kind for outcome in last.values())
    lines = [
        _HEAD,
        f"{len(tests)} tests: {kinds['passed']} passed, {kinds['skipped']} skipped, {kinds['failed']} failed,"
        f" {len(tests) - len(last)} not run.",
        "",
        *_table(last, tests),
        "",
        *_section("Failed", last, "failed"),
        *_section("Skipped", last, "skipped"),
        "## Runs",
        "",
        *(f"- {run.when}, commit {run.commit}, Linux {run.kernel}: {len(run.outcomes)} tests" for run in runs),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _table(last: dict[Instance, Outcome], tests: Iterable[Instance]) -> Iterator[str]:
    """A row for each file, or directory of tests without modes; a column for each mode."""
    yield "| File | " + " | ".join(("no mode", *MODES)) + " | Seconds |"
    yield "|---|" + "---:|" * (len(MODES) + 2)
    rows = collections.defaultdict(list)
    for test in tests:
        rows[test.row].append(test)
    for row, those in sorted(rows.items()):
        cells = [_cell([test for test in those if test.mode == mode], last) for mode in (NO_MODE, *MODES)]
        seconds = sum(last[test].seconds for test in those if test in last)
        yield f"| {row} | " + " | ".join(cells) + f" | {seconds:.0f} |"


def _cell(tests: list[Instance], last: dict[Instance, Outcome]) -> str:
    """How many have passed, and how many have not."""
    kinds = collections.Counter(last[test].kind if test in last else "not run" for test in tests)
    parts = [str(kinds["passed"])] if kinds["passed"] else []
    return ", ".join(parts + [f"{kinds[kind]} {kind}" for kind in ("failed", "skipped", "not run") if kinds[kind]])


def _section(title: str, last: dict[Instance, Outcome], kind: str) -> list[str]:
    """The tests of which this came, with the reasons."""
    found = sorted((t.file, t.name, outcome.reason) for t, outcome in last.items() if outcome.kind == kind)
    if not found:
        return []
    return [f"## {title}", "", *(f"- {file}::{name}: {reason}" for file, name, reason in found), ""]


def main() -> int:
    """Run it."""
    options = sys.argv[2:]
    everything = "--all" in options and not any((CHECKOUT / word.partition("::")[0]).exists() for word in options)
    if everything:
        shutil.rmtree(RECORDS, ignore_errors=True)
    status = record([*sys.argv[1].split(), *options])
    worked = run_kernels() if everything else True
    SUMMARY.write_text(text([read(path) for path in sorted(RECORDS.glob("*.xml"))], collected()))
    print(f"{SUMMARY} says what came of it")
    return status or int(not worked)


if __name__ == "__main__":
    sys.exit(main())
