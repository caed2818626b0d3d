"""Writes trees as members of an archive, in a form independent of driver and id map; decides nothing.

This process must be root of the namespace of the files: their owners are then ids of the environment, and so are those
in capabilities and access control lists.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sysenv_ns.archive import attributes, tarball
from sysenv_ns.archive.tarball import Extents, Kind, Member
from sysenv_ns.basics import opened
from sysenv_ns.errors import SysenvError
from sysenv_ns.files.marks import Marks
from sysenv_ns.kernel.ring import RingWriter

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True)
class UpperForm:
    """How to read the upper directory of an overlay, and which of its files, by member name, are not to be written.

    `left_out`: the tool's own, with this mode and content. `ignored`: any with such a name.
    """

    marks: Marks
    left_out: Mapping[bytes, tuple[int, bytes]]
    ignored: re.Pattern[bytes] | None = None

    def has(self, name: bytes, descriptor: int, status: os.stat_result) -> bool:
        """Whether a file is written; one that has further names always is."""
        if status.st_nlink != 1:
            return True
        if self.ignored is not None and self.ignored.fullmatch(name):
            return False
        wanted = self.left_out.get(name)
        return wanted is None or not _is(descriptor, status, *wanted)


class Packer:
    """Writes to a process that compresses."""

    def __init__(self, output: RingWriter) -> None:
        self._output = output
        self.devices = 0  # nodes that had to become empty files, as they are in an environment of a user

    def text(self, name: str, data: bytes) -> None:
        """A file of the archive's own."""
        self._output.write(text_member(name, data))

    def tree(self, path: str, name: str, layer: UpperForm | None = None) -> None:
        """A directory and everything in it, parents first; `layer`: it is a layer of an overlay. Raises OSError.

        For another one only names, modes and contents: its owners and times have no meaning.
        """
        tree = _TreeWriter(self._output, layer)
        with opened(os.open(path, _DIRECTORY)) as descriptor:
            tree.directory(descriptor, os.fsencode(name))
        self.devices += tree.devices


def text_member(name: str, data: bytes) -> bytes:
    """A file of an archive's own, with its content."""
    head = tarball.encode(Member(os.fsencode(name), "file", mode=0o644, size=len(data)))
    return head + data + tarball.padding(len(data))


class _TreeWriter:
    def __init__(self, output: RingWriter, layer: UpperForm | None) -> None:
        self._write, self._fill, self._layer = output.write, output.fill, layer
        self._marks = layer.marks if layer is not None else None
        self._links: dict[tuple[int, int], bytes] = {}
        self.devices = 0

    def directory(self, descriptor: int, name: bytes) -> None:
        """An open directory, and all in it. Raises OSError, SysenvError."""
        with os.scandir(descriptor) as found:
            inner: dict[bytes, os.DirEntry[str] | None] = {}  # None for whiteouts
            for entry in found:
                if self._marks and self._marks.is_mark(entry.name):
                    continue
                hidden = self._marks.hidden_name(entry) if self._marks else None
                if hidden is None:
                    inner[os.fsencode(entry.name)] = entry
                else:
                    inner.setdefault(os.fsencode(hidden), None)
        opaque = self._marks is not None and self._marks.is_opaque(f"/proc/self/fd/{descriptor}/.")
        self._head(name, "directory", os.fstat(descriptor), descriptor, opaque=opaque)
        for last in sorted(inner):
            path = b"%b/%b" % (name, last)
            if (here := inner[last]) is not None:
                self._entry(here, descriptor, path)
            else:
                self._write(tarball.encode(Member(path, "whiteout")))

    def _entry(self, entry: os.DirEntry[str], parent: int, name: bytes) -> None:
        if entry.is_dir(follow_symlinks=False):
            with opened(os.open(entry.name, _DIRECTORY, dir_fd=parent)) as descriptor:
                self.directory(descriptor, name)
        elif entry.is_file(follow_symlinks=False):
            self._file(entry.name, parent, name)
        else:
            self._other(f"/proc/self/fd/{parent}/{entry.name}", name)

    def _other(self, place: str, name: bytes) -> None:
        status = os.lstat(place)
        if self._is_link(status, name):
            return
        if stat.S_ISLNK(status.st_mode):
            self._head(name, "symlink", status, place, target=os.fsencode(os.readlink(place)))
        else:
            kind = _KINDS.get(stat.S_IFMT(status.st_mode))
            self.devices += kind is None
            self._head(name, kind or "file", status, place)

    def _is_link(self, status: os.stat_result, name: bytes) -> bool:
        """Whether a file is written already under another name; then this one is a link to that."""
        if status.st_nlink == 1:
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            self._write(tarball.encode(Member(name, "link", target=first)))
        return first != name

    def _file(self, place: str, parent: int, name: bytes) -> None:
        with opened(os.open(place, _FILE, dir_fd=parent)) as descriptor:
            status = os.fstat(descriptor)
            if self._is_link(status, name):
                return
            if self._layer is not None and not self._layer.has(name, descriptor, status):
                return
            extents = _extents(descriptor, status)
            member = self._head(name, "file", status, descriptor, size=status.st_size, extents=extents)
            for offset, length in ((0, status.st_size),) if extents is None else extents:
                self._content(descriptor, offset, length, place)
            if padding := tarball.padding(member.stored):
                self._write(padding)

    def _content(self, descriptor: int, offset: int, length: int, place: str) -> None:
        while length:
            read = self._fill(descriptor, offset, length)
            if not read:
                raise OSError(errno.EBUSY, "it became shorter while it was read", place)
            offset += read
            length -= read

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
        is_layer = self._layer is not None
        member = Member(
            name,
            kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid if is_layer else 0,
            gid=status.st_gid if is_layer else 0,
            mtime_ns=status.st_mtime_ns if is_layer else 0,
            size=size,
            target=target,
            opaque=opaque,
            extents=extents,
            attributes=_attributes(place, name) if is_layer else {},
        )
        try:
            self._write(tarball.encode(member))
        except tarball.TooLarge as error:
            raise SysenvError(
                f"{error} has more attributes, or a longer name, than an archive can hold",
                "look at it inside the environment",
            ) from None
        return member


def _attributes(target: str | int, name: bytes) -> dict[bytes, bytes]:
    """Those of an open file, or of what is at a path."""
    follow = isinstance(target, int)
    names = os.listxattr(target, follow_symlinks=follow)
    if not names:
        return {}
    found = {os.fsencode(key): key for key in names}
    if any(attributes.is_unresolved(key) for key in found):
        raise SysenvError(
            f"{tarball.shown(name)} has an overlay attribute that sysenv-ns never sets",
            "look at it inside the environment, and create it again",
        )
    return {key: os.getxattr(target, found[key], follow_symlinks=follow) for key in found if attributes.is_carried(key)}


def _is(descriptor: int, status: os.stat_result, mode: int, content: bytes) -> bool:
    """Whether a file has this mode and content."""
    return stat.S_IMODE(status.st_mode) == mode and os.pread(descriptor, len(content) + 1, 0) == content


def _extents(descriptor: int, status: os.stat_result) -> Extents | None:
    """The parts of a file with data; None for one without holes."""
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
    return None if found == [(0, size)] else tuple(_fewer(found))


def _fewer(extents: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """As many as an archive can hold: the smallest holes become zeros."""
    gaps = [offset - sum(before) for before, (offset, _) in itertools.pairwise(extents)]
    kept = set(heapq.nlargest(tarball.EXTENTS_LIMIT - 1, range(len(gaps)), key=gaps.__getitem__))
    start = 0
    for number, (offset, length) in enumerate(extents):
        if number == 0 or number - 1 in kept:
            start = offset
        if number in kept or number + 1 == len(extents):
            yield start, offset + length - start
