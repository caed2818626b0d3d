"""What is at a path, in a form that can be compared, written down and made again; changes nothing."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from sysenv_ns.diff import comparing
from sysenv_ns.diff.changes import FileType
from sysenv_ns.kernel import children
from sysenv_ns.upper import view

CHUNK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CAPABILITIES = "security.capability"
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")


@dataclass(frozen=True)
class Entry:
    """A file, directory, symbolic link or fifo; of sockets and devices only what they are."""

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


def from_data(data: dict[str, Any] | None) -> Entry | None:
    """What as_data made, as JSON gives it back."""
    if data is None:
        return None
    attributes = tuple((str(name), str(value)) for name, value in data["attributes"])
    return Entry(**{**data, "attributes": attributes})


def as_data(entry: Entry | None) -> dict[str, Any] | None:
    """For JSON."""
    return None if entry is None else asdict(entry)


def same(one: Entry | None, other: Entry | None) -> bool:
    """Whether two have the same content, mode, owner and attributes; times say nothing."""
    return one == other if one is None or other is None else replace(one, time=0) == replace(other, time=0)


def read(directory: int, name: str) -> Entry | None:
    """What is there in a directory, given by its descriptor; None for nothing. Raises OSError."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    facts = comparing.facts_of(status)
    entry = Entry(*facts, time=status.st_mtime_ns)
    if entry.type == "symlink":
        return replace(entry, target=os.readlink(name, dir_fd=directory))
    if entry.type not in ("file", "directory"):
        return entry
    descriptor = os.open(name, _OPEN, dir_fd=directory)
    try:
        return read_open(descriptor)
    finally:
        os.close(descriptor)


def read_open(descriptor: int) -> Entry:
    """The same of what is open, a file or a directory. Raises OSError."""
    status = os.fstat(descriptor)
    digest = digest_of(chunks(descriptor, status.st_size)) if stat.S_ISREG(status.st_mode) else ""
    facts = comparing.facts_of(status)
    has_acl = any(name in ACCESS_LISTS for name in os.listxattr(descriptor))
    kept = tuple(attributes(descriptor))
    return Entry(*facts, time=status.st_mtime_ns, digest=digest, attributes=kept, has_acl=has_acl)


def read_path(path: str) -> Entry | None:
    """The same by a path whose parents may be symbolic links. Raises OSError."""
    parent, name = os.path.split(path)
    try:
        directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return read(directory, name)
    finally:
        os.close(directory)


def open_file(directory: int, name: str) -> int:
    """A regular file's content; never what a symbolic link leads to, nor a wait for a fifo's writer. Raises OSError."""
    descriptor = os.open(name, _OPEN, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{name} is no regular file")
    return descriptor


def send(place: str, pipe: int) -> None:
    """Write what is in a file to a pipe. Raises OSError."""
    with open(place, "rb") as source:
        while data := source.read(CHUNK):
            children.write_all(pipe, data)


def chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """So many bytes of a file or pipe, or what there is of them. Raises OSError."""
    while size and (data := os.read(descriptor, min(size, CHUNK))):
        size -= len(data)
        yield data


def digest_of(data: Iterable[bytes]) -> str:
    """Their SHA-256."""
    found = hashlib.sha256()
    for chunk in data:
        found.update(chunk)
    return found.hexdigest()


def attributes(descriptor: int) -> Iterator[tuple[str, str]]:
    """What is kept of an open file's extended attributes. Raises OSError."""
    for name in sorted(os.listxattr(descriptor)):
        if name == _CAPABILITIES or (name.startswith("user.") and not view.is_of_overlay(name)):
            yield name, os.getxattr(descriptor, name).hex()
