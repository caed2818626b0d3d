"""Writes a report of an unforeseen exception, for those who can fix it; the user is told elsewhere.

A report is the user's alone. It has no contents of files, and of the command line only the tool's own words.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sysenv_ns import __version__
from sysenv_ns.basics import opened
from sysenv_ns.errors import Unexpected
from sysenv_ns.kernel.children import write_all
from sysenv_ns.sudo import Caller
from sysenv_ns.text import visible

_KEPT = 5  # reports of one place
_PREFIX = "sysenv-ns-report-"
_SUFFIX = ".txt"
_TEMPORARY = "/tmp"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(error: Unexpected, store: Path | None, caller: Caller | None) -> str | None:
    """Write a report into the store, or where temporary files are; returns its path, None when neither takes it.

    Root writes for a caller only where it is the caller's own directory, and then it is the caller's file.
    """
    data = "".join(f"{line}\n" for line in _lines(error)).encode("utf-8", "backslashreplace")
    # Root acts for somebody else, or does not know yet whether it does: then the variables are that one's.
    own = os.geteuid() != 0 or (store is not None and caller is None)
    temporary = (os.environ.get("TMPDIR") if own else None) or _TEMPORARY
    for directory in (store, Path(temporary)):
        if directory is not None:
            with contextlib.suppress(OSError):
                return _write(directory, data, caller, shared=directory is not store)
    return None


def _write(path: Path, data: bytes, caller: Caller | None, shared: bool) -> str:
    """Raises OSError."""
    with opened(os.open(path, _DIRECTORY if shared else _DIRECTORY | os.O_NOFOLLOW)) as directory:
        if not shared and os.fstat(directory).st_uid != (caller.uid if caller else os.geteuid()):
            raise PermissionError(f"{path} belongs to another user")
        name = f"{_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(4).hex()}{_SUFFIX}"
        descriptor = os.open(name, _NEW, 0o600, dir_fd=directory)
        try:
            write_all(descriptor, data)
            if caller is not None:
                os.fchown(descriptor, caller.uid, caller.gid)
        except OSError:
            os.unlink(name, dir_fd=directory)
            raise
        finally:
            os.close(descriptor)
        _forget(directory, caller.uid if caller else os.geteuid())
    return str(path / name)


def _forget(directory: int, uid: int) -> None:
    """Delete all but the last reports of a user."""
    names = [name for name in os.listdir(directory) if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    with contextlib.suppress(OSError):
        own = [name for name in names if os.lstat(name, dir_fd=directory).st_uid == uid]
        for name in sorted(own)[:-_KEPT]:
            os.unlink(name, dir_fd=directory)


def _lines(error: Unexpected) -> Iterator[str]:
    yield f"sysenv-ns {__version__}, Python {sys.version.split()[0]}, {' '.join(os.uname()[i] for i in (0, 2, 4))}"
    yield f"as {os.geteuid()} at {time.strftime('%Y-%m-%d %H:%M:%S %z')}: sysenv-ns {' '.join(_own(sys.argv[1:]))}"
    yield ""
    yield visible(error.trace)


def _own(arguments: Sequence[str]) -> Iterator[str]:
    """What a command line says to the tool: the verb and options. Names, files, and what a command is given are not."""
    verb = ""
    for argument in arguments:
        if argument == "--":
            break
        if argument.startswith("-"):
            yield argument.partition("=")[0]
        elif not verb and argument.isalpha():
            verb = argument
            yield verb
        else:
            yield "..."
            if verb in ("exec", "run"):  # what follows is the command's
                break
