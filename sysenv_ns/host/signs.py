"""What shows that something of the host has changed: signatures of files and directories. Keeps and compares none."""

from __future__ import annotations

import os
import stat

from sysenv_ns import policy

Signature = list[int]


def signature(status: os.stat_result) -> Signature:
    """Values that change whenever a file or directory does: status change time (ns), size (bytes), inode."""
    # The size of a directory says nothing that its times do not.
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return [status.st_ctime_ns, size, status.st_ino]


def current(path: str) -> Signature | None:
    """The signature of a file or directory of the host; None if it does not exist or cannot be seen."""
    try:
        return signature(os.lstat(path))
    except OSError:
        return None


def of_programs() -> dict[str, Signature | None]:
    """The present state of the few signs that show nearly every change of the host's programs."""
    return {path: current(path) for path in policy.SIGNS}


def of_packages() -> dict[str, Signature | None]:
    """The present state of what package managers change. Read it before a walk: later changes then make it stale."""
    return {path: current(path) for path in policy.PACKAGE_DATABASES}
