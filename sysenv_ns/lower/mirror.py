"""Writes what survey.py read into a base layer, inside the user namespace; decides nothing.

The metadata of a stub is its own; its data is the host's file, named by two attributes that overlayfs understands
(Documentation/filesystems/overlayfs.rst, "Data-only lower layers"; in user namespaces since Linux 6.16).
"""

from __future__ import annotations

import errno
import marshal
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened, suppress
from sysenv_ns.files import copies, reader
from sysenv_ns.host.base_files import ATTRIBUTES, BIG, COPY, FIFO, LINK, STUB, SYMLINK, Record
from sysenv_ns.kernel import children, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import BinaryIO, TypeAlias

_METACOPY = "user.overlay.metacopy"
_REDIRECT = "user.overlay.redirect"
_SPECIAL_BITS = 0o7000

Attributes: TypeAlias = "Mapping[str, bytes]"


class Writer:
    """Writes batches below one directory, which must exist; this process must be root of the namespace.

    Several may do that at once, each its batches, if one of them or another finishes it for all.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._directories: list[tuple[str, int, int]] = []
        self._attributes: dict[str, Attributes] = {}  # of directories
        self._links: list[tuple[str, str]] = []  # further names, and the first ones below the target

    def run(self, stream: BinaryIO) -> None:
        """Write batches until the end of the stream, then what comes last. Raises OSError."""
        self.receive(stream)
        self.finish()

    def receive(self, stream: BinaryIO) -> None:
        """Write batches until the end of the stream. Raises OSError."""
        os.umask(0)  # modes come from the host, with the file's creation
        with suppress(EOFError):  # who feeds it has failed, or a partner has: one of them says of what
            while (batch := marshal.load(stream)) is not None:
                self.add(*batch)

    def finish(self) -> None:
        """Make hard links, and set what all that was written below has changed. Raises OSError."""
        for path, first in self._links:
            os.link(f"{self._target}/{first}", path)
        for path, mtime, mode in reversed(self._directories):  # children first: each write below changed it
            # Not before: a default access control list would be handed down.
            _set_attributes(path, self._attributes.get(path, {}))
            if mode & _SPECIAL_BITS:  # not before: a setgid directory hands its group and its bit down
                os.chmod(path, mode)
            os.utime(path, ns=(mtime, mtime))

    def sync(self, many: bool) -> None:
        """Wait until everything is on disk, where a power cut must leave nothing incomplete. Raises OSError.

        With `many` files, syncing the whole disk takes less time than each file.
        """
        if many:
            _with_descriptor(self._target, syscalls.syncfs)
            return
        for path, _, _ in self._directories:
            with os.scandir(path) as entries:
                files = [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
            for name in (*files, path):
                _with_descriptor(name, os.fsync)

    def add(self, path: str, record: Record, entries: list[Record], kept: list[str] | None = None) -> None:
        """Write one directory (relative to the target, "" for itself) with its entries; see Batch. Raises OSError."""
        _, _, mode, uid, gid, _, _ = record
        target = f"{self._target}/{path}" if path else self._target
        if kept is not None:
            _remove_attributes(target)
            _with_descriptor(target, lambda descriptor: _remove_others(descriptor, frozenset(kept)))
        try:
            made = _make_directory(target, mode & ~_SPECIAL_BITS)
        except FileExistsError:  # the target itself, which another user made, or the room that others have left
            made = -1
            os.chown(target, uid, gid)
        _own(target, uid, gid, mode & ~_SPECIAL_BITS, was=made)
        os.chdir(target)  # short names below save the kernel a walk for every file
        for entry in entries:
            if not is_last(entry):
                _WRITERS[entry[0]](*entry[1:])
        self.note(path, record, entries)

    def note(self, path: str, record: Record, entries: list[Record]) -> None:
        """Let `finish` do what of a directory comes last."""
        target = f"{self._target}/{path}" if path else self._target
        self._directories.append((target, record[5], record[2]))
        for kind, name, *_, payload in filter(is_last, entries):
            if kind == LINK:
                self._links.append((f"{target}/{name}", payload))  # type: ignore[arg-type]
            else:
                self._attributes[target] = payload  # type: ignore[assignment]


def is_last(entry: Record) -> bool:
    """Whether an entry is written when all others are: a hard link, or what a directory hands down."""
    return entry[0] == LINK or (entry[0] == ATTRIBUTES and entry[1] == ".")


def _make_directory(path: str, mode: int) -> int:
    """Make a directory, and those above it that another writer will dress. Raises FileExistsError, OSError."""
    try:
        os.mkdir(path, mode)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.mkdir(path, mode)
    return mode


def _set_attributes(path: str, values: Attributes) -> None:
    for name, value in values.items():
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            # Not every file system has each of them, nor room for so much beside the attributes of a stub.
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EINVAL):
                raise


def _remove_attributes(path: str) -> None:
    """The attributes that a directory has from the host, which may have fewer by now."""
    for name in os.listxattr(path, follow_symlinks=False):
        if name.startswith(("user.", "system.posix_acl")):
            os.removexattr(path, name, follow_symlinks=False)


def _with_descriptor(path: str, action: Callable[[int], None]) -> None:
    with opened(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as descriptor:
        action(descriptor)


def _remove_others(directory: int, kept: frozenset[str]) -> None:
    for name in os.listdir(directory):
        if name in kept:
            continue
        try:
            os.unlink(name, dir_fd=directory)
        except IsADirectoryError:
            import shutil

            shutil.rmtree(name, dir_fd=directory)


def clone(source: str, target: str, without: Collection[str]) -> None:
    """Make a second tree with copies of the same files, except those that `without` names.

    Not hard links: `stat` would show one more, and some programs do not touch such files.
    Its paths are relative to the tree. This process must be root of the namespace. Raises OSError.
    """
    os.umask(0)
    waiting = [""]
    made: list[tuple[str, os.stat_result]] = []
    links: dict[int, str] = {}
    while waiting:
        directory = waiting.pop()
        here, there = f"{source}/{directory}", f"{target}/{directory}"
        if directory:
            os.mkdir(there, 0o700)
        made.append((directory, os.lstat(here)))
        os.chdir(there)  # short names below save the kernel a walk for every file
        for entry in os.scandir(here):
            path = f"{directory}/{entry.name}" if directory else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting += [path] if path not in without else []
                continue
            status = entry.stat(follow_symlinks=False)
            first = links.setdefault(status.st_ino, path) if status.st_nlink > 1 else path
            if first != path:
                os.link(f"{target}/{first}", entry.name, follow_symlinks=False)
            else:
                _clone_file(entry.path, entry.name, status)
    for directory, status in reversed(made):
        copies.dress(f"{target}/{directory}", f"{source}/{directory}", status)


def _clone_file(source: str, name: str, status: os.stat_result) -> None:
    """Copy a file of a layer; a stub has a size but no data, which must not become zeros."""
    attributes = os.listxattr(source, follow_symlinks=False)
    if _METACOPY not in attributes:
        copies.copy(source, name, status, attributes)
        return
    with opened(_create(name, status.st_mode & 0o777)) as descriptor:
        os.ftruncate(descriptor, status.st_size)
    copies.dress(name, source, status, attributes)


def _own(path: str | int, uid: int, gid: int, mode: int, was: int) -> None:
    if uid or gid:
        os.chown(path, uid, gid)
    if mode != was or (mode & _SPECIAL_BITS and (uid or gid)):  # chown clears the setuid and setgid bits
        os.chmod(path, mode)


def _create(name: str, mode: int) -> int:
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)


def _finish(descriptor: int, mode: int, uid: int, gid: int, mtime: int) -> None:
    _own(descriptor, uid, gid, mode, was=mode & ~_SPECIAL_BITS)
    os.utime(descriptor, ns=(mtime, mtime))
    os.close(descriptor)


def _copy(name: str, mode: int, uid: int, gid: int, mtime: int, content: bytes) -> None:
    descriptor = _create(name, mode & ~_SPECIAL_BITS)
    children.write_all(descriptor, content)
    _finish(descriptor, mode, uid, gid, mtime)


def _big(name: str, mode: int, uid: int, gid: int, mtime: int, path: str) -> None:
    try:
        source = reader.open_file(path)
    except FileNotFoundError:  # removed since the directory was read
        return
    descriptor = _create(name, mode & ~_SPECIAL_BITS)
    syscalls.copy_data(source, descriptor)
    os.close(source)
    _finish(descriptor, mode, uid, gid, mtime)


def _stub(name: str, mode: int, uid: int, gid: int, mtime: int, data: tuple[int, str]) -> None:
    size, redirect = data
    descriptor = _create(name, mode & ~_SPECIAL_BITS)
    os.ftruncate(descriptor, size)
    # In this order ext4 keeps the redirect in the inode if it is short (policy.INLINE), and has the other, which is the
    # same in all stubs, in one block for a thousand of them. In the other order each has a block of its own.
    os.setxattr(descriptor, _REDIRECT, os.fsencode(redirect))
    os.setxattr(descriptor, _METACOPY, b"")
    _finish(descriptor, mode, uid, gid, mtime)


def _symlink(name: str, mode: int, uid: int, gid: int, mtime: int, destination: str) -> None:
    os.symlink(destination, name)
    if uid or gid:
        os.lchown(name, uid, gid)
    os.utime(name, ns=(mtime, mtime), follow_symlinks=False)


def _fifo(name: str, mode: int, uid: int, gid: int, mtime: int, _: None) -> None:
    os.mkfifo(name, mode & ~_SPECIAL_BITS)
    _own(name, uid, gid, mode, was=mode & ~_SPECIAL_BITS)
    os.utime(name, ns=(mtime, mtime))


def _attributes(name: str, mode: int, uid: int, gid: int, mtime: int, values: Attributes) -> None:
    _set_attributes(name, values)


_WRITERS: dict[str, Callable[..., None]] = {
    COPY: _copy,
    BIG: _big,
    STUB: _stub,
    SYMLINK: _symlink,
    FIFO: _fifo,
    ATTRIBUTES: _attributes,
}
