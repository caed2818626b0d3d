"""Which environments were removed and can be restored, by the names of directories; moves and deletes nothing.

STORE/removed/NAME@TIME-UNTIL    the directory of an environment as it was when it was removed at TIME (in nanoseconds);
whoever comes next after UNTIL (in seconds) deletes it

What such an environment needs, its frozen layers and its origin, stays as if it was still there; the base does not, as
it is made from the host at the next start.
"""

from __future__ import annotations

import os
import time

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.environment.directory import is_name
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SECOND = 10**9  # nanoseconds


@dataclass(frozen=True)
class Removed:
    """A removed environment: when that was, until when it is kept, and where; all times since the epoch."""

    name: str
    removed: float
    until: float
    path: Path

    @property
    def is_due(self) -> bool:
        """Whether its time is over."""
        return time.time() >= self.until


def new(parent: Path, name: str, hours: int) -> Removed:
    """Where an environment is going to lie that is removed now, and is kept for so long."""
    now = time.time_ns()
    until = now // _SECOND + hours * 3600
    return Removed(name, now / _SECOND, until, parent / f"{name}@{now}-{until}")


def all_of(*parents: Path) -> list[Removed]:
    """The removed environments in these directories, the one that was removed last at the end. Raises OSError."""
    return sorted((found for parent in parents for found in _in(parent)), key=lambda found: found.removed)


def _in(parent: Path) -> list[Removed]:
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [found for name in names for found in _parsed(parent / name)]


def _parsed(path: Path) -> Iterator[Removed]:
    """What the name of a directory says; nothing for one that is not of this form."""
    name, _, times = path.name.rpartition("@")
    removed, _, until = times.partition("-")
    if is_name(name) and _is_number(removed, 19) and _is_number(until, 12):
        yield Removed(name, int(removed) / _SECOND, float(until), path)


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits


def last(found: Sequence[Removed], name: str | None = None) -> Removed | None:
    """The one that was removed last, of that name if one is given."""
    return next((one for one in reversed(found) if name in (None, one.name)), None)
