"""Writes single entries below a root directory, as root: each atomically, and never through a symbolic link.

Every directory on the way is opened by its name in the one before, and none may be a link: the owner of one cannot
lead root to another place. Everything is first written under a temporary name, which the journal knows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from sysenv_ns.apply import entries
from sysenv_ns.apply.entries import Entry
from sysenv_ns.basics import opened
from sysenv_ns.diff import changes
from sysenv_ns.files import reader
from sysenv_ns.kernel import children

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EXISTING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TargetTree:
    """The system below a root directory, given by its descriptor. Paths are absolute, without ".."."""

    def __init__(self, root: int) -> None:
        self._root = root

    @contextlib.contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The directory of a path, by a descriptor, and the name in it. Raises OSError."""
        *parts, name = path.split("/")[1:]
        with contextlib.ExitStack() as stack:
            descriptor = self._root
            for part in parts:
                descriptor = os.open(part, _DIRECTORY, dir_fd=descriptor)
                stack.callback(os.close, descriptor)
            yield descriptor, name

    def read(self, path: str) -> Entry | None:
        """The entry at a path. Raises OSError."""
        try:
            with self.parent(path) as (directory, name):
                return entries.read(directory, name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def copy_content(self, path: str, target: int) -> str:
        """Write a regular file's content to a descriptor; its SHA-256. Raises OSError."""
        with self.parent(path) as (directory, name):
            source = entries.open_file(directory, name)
        with opened(source):
            return copy(source, target, os.fstat(source).st_size)

    def put(self, path: str, entry: Entry, temporary: str, source: int | None = None) -> None:
        """Replace a path by `entry`, with the content of an open file. Raises OSError."""
        with self.parent(path) as (directory, name):
            before = _type(directory, name)
            if entry.type == "directory":
                if before not in ("directory", None):
                    os.unlink(name, dir_fd=directory)
                if before != "directory":
                    os.mkdir(name, 0o700, dir_fd=directory)
                _dress(directory, name, entry)
            else:
                _make(directory, temporary, entry, source)
                _move(directory, temporary, name, before)
            _sync(directory)

    def link(self, path: str, other: str, temporary: str, entry: Entry) -> None:
        """Replace a path by a hard link to the file at `other`, which must be that entry. Raises OSError."""
        with self.parent(other) as (source, source_name), self.parent(path) as (directory, name):
            options = {"src_dir_fd": source, "dst_dir_fd": directory}
            os.link(source_name, temporary, **options, follow_symlinks=False)
            if not entries.same(entries.read(directory, temporary), entry):
                os.unlink(temporary, dir_fd=directory)
                raise OSError(f"{other} was changed while it was linked")
            _move(directory, temporary, name, _type(directory, name))
            with contextlib.suppress(FileNotFoundError):  # rename(2) leaves both when they were one file before
                os.unlink(temporary, dir_fd=directory)
            _sync(directory)

    def dress(self, path: str, old: Entry, entry: Entry) -> None:
        """Change mode, owner and attributes of the file at a path, which must be `old`. Raises OSError."""
        with self.parent(path) as (directory, name):
            _dress(directory, name, entry, old)

    def remove(self, path: str) -> None:
        """Delete it; a directory must be empty. Raises OSError."""
        with self.parent(path) as (directory, name):
            if _type(directory, name) == "directory":
                os.rmdir(name, dir_fd=directory)
            else:
                os.unlink(name, dir_fd=directory)
            _sync(directory)

    def forget(self, path: str, temporary: str) -> None:
        """Delete what an interrupted write has left beside a path. Raises OSError."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self.parent(path) as (directory, _):
            os.unlink(temporary, dir_fd=directory)


def copy(source: int, target: int, size: int) -> str:
    """Copy that many bytes; returns their SHA-256. Raises OSError."""

    def written() -> Iterator[bytes]:
        for chunk in reader.content(source, size):
            children.write_all(target, chunk)
            yield chunk

    return entries.digest_of(written())


def _type(directory: int, name: str) -> str | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return changes.facts_of(status).type


def _move(directory: int, temporary: str, name: str, before: str | None) -> None:
    if before == "directory":
        os.rmdir(name, dir_fd=directory)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _make(directory: int, name: str, entry: Entry, source: int | None) -> None:
    if entry.type == "symlink":
        os.symlink(entry.target, name, dir_fd=directory)
        os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
    elif entry.type == "fifo":
        os.mkfifo(name, 0o600, dir_fd=directory)
        _dress(directory, name, entry)
    elif entry.type == "file" and source is not None:
        descriptor = os.open(name, _NEW, 0o600, dir_fd=directory)
        try:
            if copy(source, descriptor, entry.size) != entry.digest:
                raise OSError("its content differs from what was agreed to")
            _dress_open(descriptor, entry)
            os.fsync(descriptor)
        except OSError:
            os.unlink(name, dir_fd=directory)
            raise
        finally:
            os.close(descriptor)
    else:
        raise OSError(f"apply cannot create a {entry.type}")


def _dress(directory: int, name: str, entry: Entry, old: Entry | None = None) -> None:
    if entry.type == "symlink":
        os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
        return
    with opened(os.open(name, _EXISTING, dir_fd=directory)) as descriptor:
        if old is not None and not entries.same(entries.read_open(descriptor), old):
            raise OSError(f"{name} was changed while it was read")
        _dress_open(descriptor, entry)
        if entry.type != "fifo":
            os.fsync(descriptor)


def _dress_open(descriptor: int, entry: Entry) -> None:
    """Owner first: changing it removes the setuid bit and capabilities."""
    # A new file gets an access control list from a directory that has a default one.
    for name in {*entries.ACCESS_LISTS} & {*os.listxattr(descriptor)}:
        os.removexattr(descriptor, name)
    os.fchown(descriptor, entry.uid, entry.gid)
    os.fchmod(descriptor, entry.mode)
    wanted = dict(entry.attributes)
    for name, _ in entries.attributes(descriptor):
        if name not in wanted:
            os.removexattr(descriptor, name)
    for name, value in entry.attributes:
        os.setxattr(descriptor, name, bytes.fromhex(value))
    if entry.type == "file":
        os.utime(descriptor, ns=(entry.time, entry.time))


def _sync(directory: int) -> None:
    with opened(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)) as descriptor:
        os.fsync(descriptor)
