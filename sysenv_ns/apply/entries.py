"""What is at a path, in a form that can be compared, stored and created again; changes nothing."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sysenv_ns.basics import opened
from sysenv_ns.diff import changes
from sysenv_ns.diff.changes import FileType
from sysenv_ns.files import marks, reader, upper
from sysenv_ns.kernel import capabilities, children

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")


@dataclass(frozen=True)
class Entry:
    """A file, directory, symbolic link or fifo; for sockets and devices only the type."""

    type: FileType
    mode: int
    uid: int
    gid: int
    size: int = 0  # bytes of a regular file
    time: int = 0  # when its content changed, in nanoseconds
    digest: str = ""  # SHA-256 of a file's content
    target: str = ""  # of a symbolic link
    attributes: tuple[tuple[str, str], ...] = ()  # capabilities and the user's; values in hexadecimal
    has_acl: bool = False  # an access control list: what has one here stays as it is


def same(one: Entry | None, other: Entry | None) -> bool:
    """Whether two have the same content, mode, owner and attributes; times are ignored."""
    return one == other if one is None or other is None else replace(one, time=0) == replace(other, time=0)


def read(directory: int, name: str) -> Entry | None:
    """The entry of that name in a directory, given by its descriptor; None for nothing. Raises OSError."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    facts = changes.facts_of(status)
    entry = Entry(*facts, time=status.st_mtime_ns)
    if entry.type == "symlink":
        return replace(entry, target=os.readlink(name, dir_fd=directory))
    if entry.type not in ("file", "directory"):
        return entry
    with opened(os.open(name, _OPEN, dir_fd=directory)) as descriptor:
        return read_open(descriptor)


def read_open(descriptor: int) -> Entry:
    """The same for an open file or directory. Raises OSError."""
    status = os.fstat(descriptor)
    digest = digest_of(reader.content(descriptor, status.st_size)) if stat.S_ISREG(status.st_mode) else ""
    facts = changes.facts_of(status)
    has_acl = any(name in ACCESS_LISTS for name in os.listxattr(descriptor))
    kept = tuple(attributes(descriptor))
    return Entry(*facts, time=status.st_mtime_ns, digest=digest, attributes=kept, has_acl=has_acl)


def read_path(path: str) -> Entry | None:
    """The same for a path; its parents may be symbolic links. Raises OSError."""
    parent, name = os.path.split(path)
    try:
        directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with opened(directory):
        return read(directory, name)


def read_own(own: upper.UpperEntry) -> Entry | None:
    """The same for a file of an environment; none of its parents is a link. Raises OSError."""
    parent, name = os.path.split(own.below)
    with opened(own.layer.look(parent)) as directory:
        return read(directory, name)


def open_file(directory: int, name: str) -> int:
    """A regular file's content; does not follow a symbolic link, nor wait for a fifo's writer. Raises OSError."""
    return reader.open_file(name, dir_fd=directory)


def send(own: upper.UpperEntry, pipe: int) -> None:
    """Write the content of a file of an environment to a pipe. Raises OSError."""
    with own.stream() as source:
        while data := source.read(reader.CHUNK):
            children.write_all(pipe, data)


def digest_of(data: Iterable[bytes]) -> str:
    """Their SHA-256."""
    found = hashlib.sha256()
    for chunk in data:
        found.update(chunk)
    return found.hexdigest()


def attributes(descriptor: int) -> Iterator[tuple[str, str]]:
    """The extended attributes of an open file that are applied. Raises OSError."""
    for name in sorted(os.listxattr(descriptor)):
        if is_kept(name):
            yield name, os.getxattr(descriptor, name).hex()


def is_kept(name: str) -> bool:
    """Whether an extended attribute is applied: not those of access control lists and security labels."""
    return name == capabilities.ATTRIBUTE or (name.startswith("user.") and not marks.is_of_overlay(name))
