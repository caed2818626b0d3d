"""Checks whether only root can change what a path leads to; changes nothing.

If root works in a directory of another user, links planted there can lead it elsewhere.
"""

from __future__ import annotations

import os
import stat

from sysenv_ns.errors import SysenvError
from sysenv_ns.paths import Path

_ALL_IDS = "0 0 4294967295"
_WRITABLE = 0o022


def require(path: Path, closed: bool = True) -> None:
    """Raise SysenvError unless only root can change what is, or will be, at `path`, and all directories on the way.

    If it need not be `closed`, others may write to the directory itself, if it belongs to root.
    Root of a user namespace always passes: it can do no more than the user who made that.
    """
    place = intruded(str(path), closed) if _is_real_root() else None
    if place is not None:
        raise SysenvError(
            f"users other than root can change {place}, so root must not use {path}",
            "set SYSENV_NS_HOME to a directory that only root can change, as well as all directories above it",
        )


def is_safe(path: str) -> bool:
    """Whether `require` would pass it."""
    return not _is_real_root() or intruded(path) is None


def intruded(path: str, closed: bool = True) -> str | None:
    """The first directory or link on the way to a path that users other than root can change; None when there is none.

    In a sticky directory such as /tmp nobody else can rename or delete what belongs to root (inode(7)).
    """
    absolute = os.path.abspath(path)
    for end in dict.fromkeys((absolute, os.path.realpath(absolute))):
        parts = end.strip("/").split("/")
        for place in ("/", *(f"/{'/'.join(parts[:count])}" for count in range(1, len(parts) + 1))):
            try:
                status = os.lstat(place)
            except (FileNotFoundError, NotADirectoryError):
                break
            writable = status.st_mode & _WRITABLE and not stat.S_ISLNK(status.st_mode)
            allowed = not closed if place == end else status.st_mode & stat.S_ISVTX
            if status.st_uid != 0 or (writable and not allowed):
                return place
    return None


def _is_real_root() -> bool:
    if os.geteuid() != 0:
        return False
    return Path("/proc/self/uid_map").read_text().split() == _ALL_IDS.split()
