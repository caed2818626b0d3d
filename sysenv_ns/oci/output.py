"""A new file that is whole or not there: however it is interrupted, nothing half-written has its name."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.store import sync_directory

_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)  # O_TMPFILE of a file system or kernel without it
_MODE = 0o600  # it holds what only root of the environment may read


@contextlib.contextmanager
def new_file(path: Path, force: bool) -> Iterator[BinaryIO]:
    """A file to be written, which has its name when the context ends well; `force`: it may replace another one.

    Raises SysenvError.
    """
    _check(path, force)
    try:
        stream, name = _create(path)
    except OSError as error:
        raise SysenvError(f"{path} cannot be written: {reason(error)}", "choose another place") from error
    with stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            _check(path, force)
            os.replace(name or _named(stream, path), path)
            sync_directory(path.parent)
        except BaseException:
            if name:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
            raise


def _check(path: Path, force: bool) -> None:
    if path.is_dir():
        raise SysenvError(f"{path} is a directory", "name a file in it")
    if os.path.lexists(path) and not force:
        raise SysenvError(f"{path} exists already", "--force replaces it")


def _create(path: Path) -> tuple[BinaryIO, str]:
    """An open file beside `path`, and its name; "" for one without a name, of which nothing can be left."""
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _MODE)
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
    else:
        return os.fdopen(descriptor, "w+b"), ""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    return os.fdopen(descriptor, "w+b"), name


def _named(stream: BinaryIO, path: Path) -> str:
    """Give a file without a name one beside `path`."""
    name = f"{path.parent}/.{path.name}.{os.urandom(4).hex()}"
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # With a descriptor Python takes linkat(2) and AT_SYMLINK_FOLLOW, which this needs (open(2), O_TMPFILE).
        os.link(f"/proc/self/fd/{stream.fileno()}", os.path.basename(name), dst_dir_fd=directory)
    finally:
        os.close(directory)
    return name
