"""Which environments were removed and can be restored, by the names of directories; moves and deletes nothing.

STORE/removed/NAME@TIME-UNTIL    the directory of an environment as it was when it was removed at TIME (in nanoseconds);
whoever comes next after UNTIL (in seconds) deletes it

What such an environment needs, its frozen layers and its origin, stays as if it was still there; the base does not, as
it is made from the host at the next start.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]{0,99})@([0-9]{1,19})-([0-9]{1,12})")
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
    parts = ((parent / name, _NAME.fullmatch(name)) for name in names)
    return [Removed(m[1], int(m[2]) / _SECOND, float(m[3]), path) for path, m in parts if m]


def last(found: Sequence[Removed], name: str | None = None) -> Removed | None:
    """The one that was removed last, of that name if one is given."""
    return next((one for one in reversed(found) if name in (None, one.name)), None)
