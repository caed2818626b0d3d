"""Writes trees as members of an archive, in a form that no driver and no id map is in; decides nothing.

This process must be root of the namespace of the files: their owners are then ids of the environment, and so are those
in capabilities and access control lists.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from sysenv_ns.archive import attributes, tarball
from sysenv_ns.archive.tarball import Extents, Kind, Member
from sysenv_ns.errors import SysenvError
from sysenv_ns.upper import view

_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class Layer:
    """How the upper directory of an overlay is read. `left_out`: what the tool has put there, by the member's name."""

    signs: view.Signs
    left_out: Mapping[bytes, tuple[int, bytes]]  # mode and content


class Packer:
    """Writes to a stream, and keeps its checksum."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.devices = 0  # nodes that had to become empty files, as they are in an environment of a user

    def text(self, name: str, data: bytes) -> None:
        """A file of the archive's own."""
        self._write(tarball.encode(Member(os.fsencode(name), "file", mode=0o644, size=len(data))))
        self._write(data + tarball.padding(len(data)))

    def tree(self, path: str, name: str, layer: Layer | None = None) -> None:
        """A directory with all that is in it, parents first; `layer`: it is one of an overlay. Raises OSError."""
        tree = _Tree(self._write, layer)
        descriptor = os.open(path, _DIRECTORY)
        try:
            tree.directory(descriptor, os.fsencode(name))
        finally:
            os.close(descriptor)
        self.devices += tree.devices

    @property
    def checksum(self) -> str:
        """The SHA-256 of all so far."""
        return self._digest.hexdigest()

    def end(self) -> None:
        """What every archive ends with."""
        self._write(tarball.END)
        self._stream.flush()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._stream.write(data)


class _Tree:
    def __init__(self, write: Callable[[bytes], None], layer: Layer | None) -> None:
        self._write, self._layer = write, layer
        self._signs = layer.signs if layer is not None else None
        self._links: dict[tuple[int, int], bytes] = {}
        self.devices = 0

    def directory(self, descriptor: int, name: bytes) -> None:
        """An open directory, and all in it. Raises OSError, SysenvError."""
        with os.scandir(f"/proc/self/fd/{descriptor}") as found:
            entries = [entry for entry in found if not (self._signs and self._signs.is_mark(entry.name))]
        hidden = {entry.path: self._signs.hidden_name(entry) if self._signs else None for entry in entries}
        opaque = self._signs is not None and self._signs.is_opaque(f"/proc/self/fd/{descriptor}/.")
        self._head(name, "directory", os.fstat(descriptor), descriptor, opaque=opaque)
        inner = {os.fsencode(entry.name): entry.path for entry in entries if hidden[entry.path] is None}
        whiteouts = {os.fsencode(whiteout) for whiteout in hidden.values() if whiteout is not None}
        for last in sorted({*inner, *whiteouts}):
            path = b"%b/%b" % (name, last)
            if last in inner:
                self._entry(inner[last], path)
            else:
                self._write(tarball.encode(Member(path, "whiteout")))

    def _entry(self, place: str, name: bytes) -> None:
        status = os.lstat(place)
        if stat.S_ISDIR(status.st_mode):
            descriptor = os.open(place, _DIRECTORY)
            try:
                self.directory(descriptor, name)
            finally:
                os.close(descriptor)
            return
        first = self._links.setdefault((status.st_dev, status.st_ino), name) if status.st_nlink > 1 else name
        if first != name:
            self._write(tarball.encode(Member(name, "link", target=first)))
        elif stat.S_ISREG(status.st_mode):
            self._file(place, name)
        elif stat.S_ISLNK(status.st_mode):
            self._head(name, "symlink", status, place, target=os.fsencode(os.readlink(place)))
        else:
            kind = _KINDS.get(stat.S_IFMT(status.st_mode))
            self.devices += kind is None
            self._head(name, kind or "file", status, place)

    def _file(self, place: str, name: bytes) -> None:
        descriptor = os.open(place, _FILE)
        try:
            status = os.fstat(descriptor)
            if self._layer is not None and _is(descriptor, status, self._layer.left_out.get(name)):
                return
            extents = _extents(descriptor, status)
            member = self._head(name, "file", status, descriptor, size=status.st_size, extents=extents)
            for offset, length in ((0, status.st_size),) if extents is None else extents:
                self._content(descriptor, offset, length, place)
            self._write(tarball.padding(member.stored))
        finally:
            os.close(descriptor)

    def _content(self, descriptor: int, offset: int, length: int, place: str) -> None:
        while length:
            data = os.pread(descriptor, min(_CHUNK, length), offset)
            if not data:
                raise OSError(errno.EBUSY, "it has become shorter meanwhile", place)
            self._write(data)
            offset += len(data)
            length -= len(data)

    def _head(
        self,
        name: bytes,
        kind: Kind,
        status: os.stat_result,
        place: str | int,
        *,
        size: int = 0,
        target: bytes = b"",
        opaque: bool = False,
        extents: Extents | None = None,
    ) -> Member:
        mode, uid, gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        found = _attributes(place, name) if self._layer is not None else {}
        member = Member(name, kind, mode, uid, gid, status.st_mtime_ns, size, target, opaque, extents, found)
        self._write(tarball.encode(member))
        return member


def _attributes(target: str | int, name: bytes) -> dict[bytes, bytes]:
    """Those of an open file, or of what is at a path."""
    follow = isinstance(target, int)
    found = {os.fsencode(key): key for key in os.listxattr(target, follow_symlinks=follow)}
    if any(attributes.is_unresolved(key) for key in found):
        raise SysenvError(
            f"{tarball.shown(name)} has no content of its own, by an attribute that no overlay here makes",
            "look at it inside, and write it anew",
        )
    return {key: os.getxattr(target, found[key], follow_symlinks=follow) for key in found if attributes.is_carried(key)}


def _is(descriptor: int, status: os.stat_result, wanted: tuple[int, bytes] | None) -> bool:
    """Whether a file has this mode and content, and no other name."""
    if wanted is None or (stat.S_IMODE(status.st_mode), status.st_nlink) != (wanted[0], 1):
        return False
    return os.pread(descriptor, len(wanted[1]) + 1, 0) == wanted[1]


def _extents(descriptor: int, status: os.stat_result) -> Extents | None:
    """Where a file has data; None for one without holes."""
    size = status.st_size
    if 512 * status.st_blocks >= size:
        return None
    found = []
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole is left
                raise
            break
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start, end - start))
    return None if found == [(0, size)] else tuple(found)
