"""Reads JUnit reports of pytest: what came of each test, and why. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True)
class Case:
    """A test and what came of it: "passed", "failed" or "skipped", with the whole message."""

    where: str  # the dotted name of its module
    name: str
    kind: str
    message: str
    seconds: float


def cases(report: Path) -> Iterator[Case]:
    """The tests of a report. Raises OSError, ElementTree.ParseError."""
    for case in ElementTree.parse(report).iter("testcase"):
        kind, message = _outcome(case)
        yield Case(case.get("classname", "?"), case.get("name", "?"), kind, message, float(case.get("time", 0)))


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    for kind in ("failure", "error", "skipped"):
        if (found := case.find(kind)) is not None:
            return "skipped" if kind == "skipped" else "failed", found.get("message", "")
    return "passed", ""
