"""Locks that a process holds on a file, until it ends or executes a program."""

from __future__ import annotations

import errno
import fcntl
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import contextmanager, opened
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import reader
from sysenv_ns.kernel import remedies
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def file_lock(path: Path, shared: bool = False, reading: bool = False) -> Iterator[int]:
    """Hold flock(2) on `path`, as `locked` does; yields the descriptor. Raises SysenvError."""
    with opened(locked(path, shared, reading)) as descriptor:
        yield descriptor


def locked(path: Path, shared: bool = False, reading: bool = False) -> int:
    """A descriptor that holds flock(2) on `path`, created if missing, until it is closed. Raises SysenvError.

    For `reading`, an existing one that cannot be written is enough.
    """
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
        except OSError as error:
            if not reading or error.errno not in (errno.EROFS, errno.EACCES):
                raise
            descriptor = reader.open_file(path)
    except OSError as error:
        raise SysenvError(f"{path} cannot be locked: {reason(error)}", remedies.storage(error, path)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
