"""Replaces a file atomically, and durably where that is promised."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.basics import opened, suppress
from sysenv_ns.kernel import syscalls
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Callable

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_json(path: Path, data: object, durable: bool = True) -> None:
    """Replace a file by this JSON, as `write_whole` does. Raises OSError."""
    write_whole(path, documents.json_of(data).encode(), durable)


def write_whole(path: Path, content: bytes, durable: bool = True) -> None:
    """Replace a file atomically: readers, even after a power cut, find the whole old or new content. Raises OSError.

    If not `durable`, a power cut may leave an empty file. For one writer at a time: the name of the temporary
    file is always the same, so that the next writer removes what a killed one has left.
    """
    temporary = f"{path}.new"
    write_new(temporary, content, 0o666, durable)
    os.replace(temporary, path)


def replace_hidden(path: Path, content: bytes, mode: int) -> None:
    """The same with exactly this mode, by way of a name with a dot in front: who reads the directory passes over it."""
    temporary = path.with_name(f".{path.name}.new")
    write_new(temporary, content, mode, exact=True)
    os.replace(temporary, path)


def replace_at(
    directory: int,
    name: str,
    temporary: str,
    content: bytes,
    mode: int,
    durable: bool = True,
    owner: tuple[int, int] | None = None,
) -> None:
    """Replace a file in an open directory atomically, by way of this other name there; else as `write_new`.

    Raises OSError.
    """
    write_new(temporary, content, mode, durable, exact=owner is not None, dir_fd=directory, owner=owner)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def write_new(
    path: Path | str,
    content: bytes,
    mode: int,
    durable: bool = True,
    exact: bool = False,
    dir_fd: int | None = None,
    owner: tuple[int, int] | None = None,
) -> None:
    """Write a new file, with this mode minus the umask, or with exactly this mode. Raises OSError.

    A file left by a killed writer is deleted, never written to: it may be a link. A path without a slash is in the
    open directory `dir_fd`, if that is given.
    """
    with suppress(FileNotFoundError):
        os.unlink(path, dir_fd=dir_fd)
    descriptor = os.open(path, _NEW, mode, dir_fd=dir_fd)
    with open(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        if owner is not None:
            os.fchown(descriptor, *owner)
        if exact:
            os.fchmod(descriptor, mode)  # behind what is written, which takes a setuid bit away
        if durable:
            os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """fsync(2) a directory, so that renames into it are durable. Raises OSError."""
    _sync(path, os.fsync)


def sync_file_system(path: Path) -> None:
    """syncfs(2): write everything of a directory's file system to disk. Raises OSError."""
    _sync(path, syscalls.syncfs)


def _sync(path: Path, synchronise: Callable[[int], None]) -> None:
    with opened(os.open(path, os.O_RDONLY | os.O_DIRECTORY)) as descriptor:
        synchronise(descriptor)
