"""Writes a file that appears under its name when it is complete, or the standard output; knows no contents."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from sysenv_ns.basics import opened
from sysenv_ns.errors import SysenvError, reason

_MODE = 0o600  # whatever the umask: an environment may hold what its root alone may read
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NEW = os.O_RDWR | os.O_CLOEXEC


@contextlib.contextmanager
def standard() -> Iterator[BinaryIO]:
    """The standard output, unless it is a terminal. Raises SysenvError."""
    if sys.stdout.isatty():
        raise SysenvError(
            "refusing to write an archive to a terminal", "give a file, or a pipe: sysenv-ns export NAME - | ..."
        )
    with _written("the standard output"), os.fdopen(os.dup(sys.stdout.fileno()), "wb") as stream:
        yield stream


# Lets root be the user that it acts for, while a path is followed: it must lead nowhere that is closed to that one.
As = Callable[[], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def file(path: Path, force: bool, as_user: As) -> Iterator[BinaryIO]:
    """A new file of the user; with `force` it may replace an old one.

    Raises SysenvError; then an old file is unchanged.
    """
    with _written(str(path)), _file(path, force, as_user) as stream:
        yield stream


@contextlib.contextmanager
def _written(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever reads it has gone
        raise
    except OSError as error:
        hint = "free some space, or give another name" if error.errno in _FULL else "give another name"
        raise SysenvError(f"{name} cannot be written: {reason(error)}", hint) from error


@contextlib.contextmanager
def _file(path: Path, force: bool, as_user: As) -> Iterator[BinaryIO]:
    with as_user():
        target = Path(os.path.realpath(path))
        _check(path, target, force)
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    temporary = f".{target.name[:200]}.{os.urandom(4).hex()}"
    with opened(directory):
        with as_user():
            descriptor, named = _open(directory, temporary)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, _MODE)
                yield stream
                stream.flush()
                os.fsync(descriptor)
                with as_user():
                    if not named and (force or not _link(descriptor, directory, target.name)):
                        _link(descriptor, directory, temporary)
                        named = True
                    if named:
                        _check(path, target, force)
                        os.rename(temporary, target.name, src_dir_fd=directory, dst_dir_fd=directory)
                        named = False
                os.fsync(directory)
        finally:
            if named:
                with as_user():
                    os.unlink(temporary, dir_fd=directory)


def _check(path: Path, target: Path, force: bool) -> None:
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise SysenvError(f"{path} exists and is not a file", "give another name, or - for the standard output")
    if not force:
        raise SysenvError(f"{path} already exists", "give another name; --force replaces it")


def _open(directory: int, name: str) -> tuple[int, bool]:
    """A new file, and whether it already has that name. An unnamed one disappears if the export is killed."""
    try:
        return os.open(".", os.O_TMPFILE | _NEW, _MODE, dir_fd=directory), False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # NFS, FUSE, overlays of old
            raise
    return os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | _NEW, _MODE, dir_fd=directory), True


def _link(descriptor: int, directory: int, name: str) -> bool:
    """Name an unnamed file; False if that name exists meanwhile."""
    try:
        # With descriptors of directories: without, Python calls link(2), which does not follow.
        source = f"/proc/self/fd/{descriptor}"
        os.link(source, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
    except FileExistsError:
        return False
    return True
