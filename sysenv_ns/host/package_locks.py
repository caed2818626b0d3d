"""Finds out whether a package manager of the host is working, and waits for its end; takes no lock itself.

A package database that is mirrored meanwhile counts as interrupted, and every apt inside complains about that.
Everybody can see the locks in /proc/locks (proc_locks(5)), except those of processes in other pid namespaces.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns import policy
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.mountinfo import Mount
from sysenv_ns.text import quoted

_PATIENCE = 1800.0  # seconds: a release upgrade takes that long
_PATIENCE_WITHOUT_LOCK = 20.0  # seconds: nobody may ever complete what was interrupted
_INTERVAL = 0.25  # seconds


@dataclass(frozen=True)
class Busy:
    """The evidence that the package database is being changed: a lock's holder, else a file that exists meanwhile."""

    pid: int | None
    path: str

    def describe(self) -> str:
        """For messages."""
        if self.pid is None:
            return f"{self.path} is not empty" if os.path.isdir(self.path) else f"there is {self.path}"
        return f"{quoted(_name(self.pid))}, process {self.pid}, is running"


def look() -> Busy | None:
    """Whether a package manager of the host is working now."""
    holders = _holders(Path("/proc/locks").read_bytes(), _places(policy.PACKAGE_LOCKS))
    if holders:
        return holders[0]
    journals = (path for path in policy.PACKAGE_JOURNALS if _holds_something(path))
    return next((Busy(None, path) for path in journals), None)


def wait(notice: Callable[[str], None]) -> None:
    """Wait until none is, with a notice and a limit. Raises SysenvError if a lock is held for longer.

    A user cannot complete what an interrupted one has left: after a while it is accepted as it is.
    """
    begin, told = time.monotonic(), False
    while (busy := look()) is not None:
        waited = time.monotonic() - begin
        if busy.pid is None and waited > _PATIENCE_WITHOUT_LOCK:
            notice(f"the host's packages are only partly installed ({busy.describe()}), and so they will be inside")
            return
        if waited > _PATIENCE:
            raise SysenvError(
                f"the host's packages are being changed: {busy.describe()}", "try again when that has ended"
            )
        if not told:
            told = True
            notice(f"waiting until the host's packages are no longer being changed: {busy.describe()}")
        time.sleep(_INTERVAL)


def _holds_something(path: str) -> bool:
    try:
        return bool(os.listdir(path))
    except NotADirectoryError:
        return True
    except OSError:  # there is none, or it is not ours to read
        return False


def _places(paths: Iterable[str]) -> dict[tuple[str, int], str]:
    """The paths by disk and inode, which is how /proc/locks names them: not as stat(2) does on btrfs."""
    mounts: tuple[Mount, ...] = ()
    found = {}
    for path in paths:
        try:
            inode = os.stat(path).st_ino
        except OSError:
            continue
        mounts = mounts or mountinfo.visible(mountinfo.read())
        if (mount := mountinfo.containing(os.path.realpath(path), mounts)) is not None:
            found[mount.device, inode] = path
    return found


def _holders(table: bytes, places: dict[tuple[str, int], str]) -> list[Busy]:
    """The holders of write locks at these places: lines are "1: POSIX  ADVISORY  WRITE 4711 fd:00:262145 0 EOF"."""
    found = []
    for line in table.decode(errors="replace").splitlines():
        fields = line.split()
        if len(fields) < 6 or fields[3] != "WRITE":  # a waiter's line has an arrow more
            continue
        major, minor, inode = fields[5].split(":")
        path = places.get((f"{int(major, 16)}:{int(minor, 16)}", int(inode)))
        if path is not None:
            found.append(Busy(int(fields[4]), path))
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:  # it has ended
        return "a package manager"
