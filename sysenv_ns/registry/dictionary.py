"""The dictionary of a small layer: what its files were before, so that its blob has little but what has changed.

Package databases are whole files, and most of each stays as it was. So a blob can begin with a head, a skippable frame
of Zstandard (RFC 8878), and then needs a dictionary: the contents of the files that the head names, one after another,
each from the first of certain trees below that has a file of that name, not an empty one. Which trees these are is in
the manifest (artifact.py), where they come before it. Fetches nothing, and opens no blob.
"""

from __future__ import annotations

import hashlib
import io
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import fsdecode
from typing import BinaryIO, NamedTuple

from sysenv_ns.archive import compression
from sysenv_ns.archive.tarball import Damaged, Member, Reader
from sysenv_ns.files.reader import Root

LIMIT = 32 << 20  # bytes of a dictionary, and of a tree that has one: zstd's window for them
_HEAD_LIMIT = _NAMES_LIMIT = 4 << 10  # bytes
_MANY = 1_000_000  # names in all dictionaries together
_FRAME = struct.Struct("<II")  # of a skippable frame: its magic number, and its length
_MAGIC = 0x184D2A50
_DIGEST = hashlib.sha256().digest_size

Piece = tuple[int, bytes]  # where in a file, and what


class Head(NamedTuple):
    """The checksum of a dictionary, and the names of its files, which NUL separates."""

    digest: bytes
    names: bytes

    @classmethod
    def of(cls, names: Sequence[bytes], content: bytes) -> Head:
        """The head of a blob with this dictionary."""
        return cls(hashlib.sha256(content).digest(), b"\0".join(names))

    def encode(self) -> bytes:
        """Its form in a blob."""
        data = self.digest + compression.compressed(self.names)
        return _FRAME.pack(_MAGIC, len(data)) + data


def read_head(stream: BinaryIO) -> Head:
    """The head at the beginning of a blob, after which the stream then is. Raises Damaged, OSError."""
    start = stream.read(_FRAME.size)
    magic, size = _FRAME.unpack(start) if len(start) == _FRAME.size else (0, 0)
    data = stream.read(size) if magic == _MAGIC and size <= _HEAD_LIMIT else b""
    try:
        names = compression.reader(io.BytesIO(data[_DIGEST:])).read(_NAMES_LIMIT + 1)
    except (compression.Error, EOFError):
        names = b""
    if not 0 < len(names) <= _NAMES_LIMIT:
        raise Damaged("the head of a layer is invalid")
    return Head(data[:_DIGEST], names)


class Former(NamedTuple):
    """A file of a dictionary: its name in its tree, and which of the trees below it is from."""

    name: bytes
    below: int
    size: int


def files(tree: bytes, top: bytes) -> list[bytes]:
    """The names of the files in an archive of a directory `top`, within that. Raises Damaged."""
    reader, names = Reader(io.BytesIO(tree).read), []
    while member := reader.next():
        if member.kind == "file":
            names.append(member.name[len(top) + 1 :])
    return names


def write_former(names: Iterable[bytes], below: Sequence[str], stream: BinaryIO) -> tuple[Former, ...]:
    """Write what files of these names were in the directories below, uppermost first, into a stream: a dictionary.

    Those that matter most, by size, as far as there is room. In their namespace. Raises OSError.
    """
    roots = [Root(path) for path in below]
    found, room, room_for_names = [], LIMIT, _NAMES_LIMIT
    for former in sorted(filter(None, (_former(name, roots) for name in names)), key=lambda f: (-f.size, f.name)):
        if former.size <= room and len(former.name) < room_for_names:
            room, room_for_names = room - former.size, room_for_names - len(former.name) - 1
            stream.write(roots[former.below].read(fsdecode(former.name), former.size))
            found.append(former)
    return tuple(found)


def _former(name: bytes, roots: Sequence[Root]) -> Former | None:
    for number, root in enumerate(roots):
        status = root.find(fsdecode(name))
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_size:
            # One with further names may be in its archive as a link.
            return Former(name, number, status.st_size) if status.st_nlink == 1 else None
    return None


@dataclass(frozen=True)
class Needed:
    """The dictionary that a tree needs: its blob's head, and the trees below, in which its files are looked for."""

    head: Head
    below: tuple[str, ...]


class FormerFiles:
    """Keeps, of trees that are read one after the other, the files that the dictionaries of later ones need."""

    def __init__(self, needed: Mapping[str, Needed], file: BinaryIO) -> None:
        """`needed`: by tree. `file`: an empty one, to write to. Raises Damaged."""
        self._file, self._end = file, 0
        self._trees = frozenset(tree for one in needed.values() for tree in one.below)
        self._names: set[bytes] = set()
        for one in needed.values():
            self._names.update(one.head.names.split(b"\0"))
            if len(self._names) > _MANY:
                raise Damaged("its layers depend on too many files")
        self._kept: dict[tuple[str, bytes], tuple[int, int]] = {}  # where in the file, and how many bytes

    def watched(self, tree: str, name: bytes, member: Member, content: Iterator[Piece]) -> Iterator[Piece]:
        """The content of a member, with this name in its tree, which is kept while it is read. Raises OSError."""
        is_needed = tree in self._trees and name in self._names
        if not is_needed or member.kind != "file" or not 0 < member.size <= LIMIT:  # an empty one can be a device node
            yield from content
            return
        start, self._end = self._end, self._end + member.size
        self._kept[tree, name] = (start, member.size)
        for offset, data in content:
            self._file.seek(start + offset)
            self._file.write(data)
            yield offset, data

    def dictionary(self, needed: Needed) -> bytes:
        """The dictionary, from trees that were read before. Raises Damaged, OSError."""
        found = [self._find(name, needed.below) for name in needed.head.names.split(b"\0")]
        if sum(size for _, size in found) > LIMIT:
            raise Damaged("the dictionary of a layer is too large")
        self._file.truncate(self._end)  # the last one may end with a hole
        content = b"".join(map(self._read, found))
        if hashlib.sha256(content).digest() != needed.head.digest:
            raise Damaged("the layers below a layer are not those that it was made with")
        return content

    def _find(self, name: bytes, below: Sequence[str]) -> tuple[int, int]:
        found = next((self._kept[tree, name] for tree in below if (tree, name) in self._kept), None)
        if found is None:
            raise Damaged("a layer depends on a file that is in no layer below it")
        return found

    def _read(self, place: tuple[int, int]) -> bytes:
        self._file.seek(place[0])
        return self._file.read(place[1])
