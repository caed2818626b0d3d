"""The format of members in an archive: the part of pax (pax(1), tar(5)) that export writes; knows no environments.

Not tarfile: names and attributes are bytes here, times have nanoseconds, all bytes before a member have a checksum, and
what export does not write is refused. Other tar programs can list and unpack it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from sysenv_ns.text import quoted

Kind = Literal["file", "directory", "symlink", "link", "fifo", "socket", "whiteout"]
Extents = tuple[tuple[int, int], ...]

BLOCK = 512
END = bytes(2 * BLOCK)
_LIMIT = 4 << 20  # bytes of a member's records, or of the map of a sparse file
_RECORDS_LIMIT = 10_000  # as many attributes as listxattr(2) can tell of (XATTR_LIST_MAX)
_PATH_LIMIT = 4000  # bytes of a name: PATH_MAX, less what leads to an upper directory
_TARGET_LIMIT = 4095  # bytes of the target of a link
EXTENTS_LIMIT = 100_000  # of a sparse file
_CHUNK = 1 << 20
_SHOWN = 400  # bytes
_NO_ID = (1 << 32) - 1  # what chown(2) takes for "leave it"
_TYPES: Mapping[Kind, bytes] = {
    **{"file": b"0", "link": b"1", "symlink": b"2", "whiteout": b"3", "directory": b"5", "fifo": b"6"},
    "socket": b"0",  # pax has none: a file, and a record that says so
}
_KINDS: Mapping[bytes, Kind] = {code: kind for kind, code in _TYPES.items() if kind != "socket"}
_RECORDS = b"x"
_RECORDS_NAME = b"././@PaxHeader"
_MAGIC = b"ustar\x0000"
_NUMBERS = b"%07o\0%07o\0%07o\0%011o\0%011o\0"
_REST = _MAGIC + bytes(64) + b"0000000\0" * 2 + bytes(167)  # no names of users, 0 for the numbers of a device
_SUM_OF_REST = sum(_REST)
_HEADER = b"%b%b%06o\0 %b%b%b"  # the checksum is that of the header with eight blanks in its place
_ATTRIBUTE = b"SCHILY.xattr."
_OPAQUE, _SOCKET = b"SYSENVNS.opaque", b"SYSENVNS.socket"
_SPARSE = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
_SPARSE_NAME, _SPARSE_SIZE = b"GNU.sparse.name", b"GNU.sparse.realsize"
_TIME = re.compile(rb"(-?)([0-9]{1,18})\.([0-9]{9})")
_NUMBER = re.compile(rb"[0-9]{1,18}")
_LARGEST = {8: 0o7777777, 12: 0o77777777777}  # what a field of so many bytes holds


class Damaged(Exception):
    """The data is not an archive of ours, or damaged; the text says where."""


class TooLarge(Exception):
    """A member that a reader would refuse; the text is its name."""


class Member(NamedTuple):
    """One file of an archive. `extents`: where a sparse file has data (offset, length); None: everywhere."""

    name: bytes
    kind: Kind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    target: bytes = b""
    opaque: bool = False
    extents: Extents | None = None
    attributes: Mapping[bytes, bytes] = MappingProxyType({})

    @property
    def stored(self) -> int:
        """The number of bytes after its header."""
        if self.extents is None:
            return self.size
        return len(_sparse_map(self.extents)) + sum(length for _, length in self.extents)


def encode(member: Member) -> bytes:
    """The bytes before the data of a member: records, header, and the map of a sparse file. Raises TooLarge."""
    stored = member.stored
    records = []
    if member.uid > _LARGEST[8] or member.gid > _LARGEST[8] or stored > _LARGEST[12]:
        numbers = {b"uid": (member.uid, 8), b"gid": (member.gid, 8), b"size": (stored, 12)}
        records = [(key, b"%d" % value) for key, (value, width) in numbers.items() if value > _LARGEST[width]]
    records.append((b"mtime", _time(member.mtime_ns)))
    if member.extents is None:
        records.append((b"path", member.name))
    else:
        records += [*_SPARSE.items(), (_SPARSE_NAME, member.name), (_SPARSE_SIZE, b"%d" % member.size)]
    if member.target:
        records.append((b"linkpath", member.target))
    if member.opaque:
        records.append((_OPAQUE, b"y"))
    if member.kind == "socket":
        records.append((_SOCKET, b"y"))
    if member.attributes:
        records += [(_ATTRIBUTE + _quoted(key), value) for key, value in sorted(member.attributes.items())]
    data = _records(records)
    if len(data) > _LIMIT or len(records) > _RECORDS_LIMIT:
        raise TooLarge(shown(member.name))
    body = b"" if member.extents is None else _sparse_map(member.extents)
    header = _header(member, _TYPES[member.kind], stored)
    return b"".join((_records_header(len(data)), data, padding(len(data)), header, body))


def padding(size: int) -> bytes:
    """The padding after that many bytes, to the end of the block."""
    return bytes(-size % BLOCK)


def _records(records: list[tuple[bytes, bytes]]) -> bytes:
    data = b"".join([_record(key, value) for key, value in records])
    try:  # no character of UTF-8 begins before a line feed or an equals sign and ends after it
        data.decode()
    except UnicodeDecodeError:
        data = _record(b"hdrcharset", b"BINARY") + data
    return data


def _record(key: bytes, value: bytes) -> bytes:
    """A record begins with its own length in decimal digits, which count too."""
    rest = len(key) + len(value) + 3
    length = rest + (1 if rest < 9 else 2 if rest < 98 else 3 if rest < 997 else len(str(rest + len(str(rest)))))
    return b"%d %b=%b\n" % (length, key, value)


@functools.lru_cache(maxsize=1024)
def _records_header(size: int) -> bytes:
    """The header of records, whose name says nothing."""
    return _header(Member(_RECORDS_NAME, "file", mode=0o644), _RECORDS, size)


def _header(member: Member, code: bytes, size: int) -> bytes:
    """A number; one that does not fit is 0 here, and in a record."""
    numbers = _NUMBERS % (
        member.mode if member.mode <= _LARGEST[8] else 0,
        member.uid if member.uid <= _LARGEST[8] else 0,
        member.gid if member.gid <= _LARGEST[8] else 0,
        size if size <= _LARGEST[12] else 0,
        seconds if 0 <= (seconds := member.mtime_ns // 10**9) <= _LARGEST[12] else 0,
    )
    name, target = member.name[:100], member.target[:100]
    checksum = sum(name) + sum(numbers) + 8 * 32 + code[0] + sum(target) + _SUM_OF_REST
    return _HEADER % (name.ljust(100, b"\0"), numbers, checksum, code, target.ljust(100, b"\0"), _REST)


def _time(nanoseconds: int) -> bytes:
    seconds, rest = divmod(abs(nanoseconds), 10**9)
    return b"%b%d.%09d" % (b"-" if nanoseconds < 0 else b"", seconds, rest)


def _quoted(key: bytes) -> bytes:
    return key.replace(b"%", b"%25").replace(b"=", b"%3D")


def _unquoted(key: bytes) -> bytes:
    return key.replace(b"%3D", b"=").replace(b"%25", b"%")


def _sparse_map(extents: Extents) -> bytes:
    """GNU tar's, version 1.0: how many extents, then offset and length of each, a line each, in whole blocks."""
    text = b"".join(b"%d\n" % number for number in (len(extents), *(n for extent in extents for n in extent)))
    return text + padding(len(text))


class Reader:
    """Reads members one after the other with `read`. Raises Damaged, and what `read` raises."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._digest = hashlib.sha256()
        self._before = self._digest
        self._left = self._pad = 0  # bytes of the current member's data, and to the end of its last block
        self._member = Member(b"", "file")

    @property
    def checksum(self) -> str:
        """The SHA-256 of everything before the current member."""
        return self._before.hexdigest()

    def next(self) -> Member | None:
        """The next member; None at the end, after which nothing may follow."""
        for _ in self.data():
            pass
        self._before = self._digest.copy()
        block = self._take(BLOCK)
        if block == bytes(BLOCK):
            if self._take(BLOCK) != bytes(BLOCK) or self._read(1):
                raise Damaged("data after its end")
            return None
        code, size, _ = _parse(block)
        if code != _RECORDS or size > _LIMIT:
            raise Damaged("a member has no extended header")
        records = _split(self._take(size))
        self._skip(-size % BLOCK)
        code, size, member = _parse(self._take(BLOCK))
        self._left, member = _complete(code, size, member, records)
        self._pad = -self._left % BLOCK
        if member.extents is not None:
            member = member._replace(extents=self._extents(member.size))
        self._member = member
        return member

    def data(self) -> Iterator[tuple[int, bytes]]:
        """The content of the current member in pieces, each with its offset; holes are left out.

        It must be read to the end, or not at all.
        """
        for offset, length in self._member.extents or ((0, self._left),):
            position, end = offset, offset + length
            while position < end:
                piece = self._take(min(_CHUNK, end - position))
                self._left -= len(piece)
                yield position, piece
                position += len(piece)
        self._skip(self._pad)
        self._pad = 0
        self._member = Member(b"", "file")

    def _extents(self, size: int) -> Extents:
        text, lines, wanted = bytearray(), 0, 0
        while not wanted or lines < wanted:
            if len(text) >= min(self._left, _LIMIT):
                raise Damaged("the map of a sparse file has no end")
            block = self._take(BLOCK)
            text += block
            lines += block.count(b"\n")
            if lines and not wanted:
                count = _number(bytes(text.partition(b"\n")[0]))
                if count > EXTENTS_LIMIT:
                    raise Damaged("the map of a sparse file is too long")
                wanted = 1 + 2 * count
        self._left -= len(text)
        count, *numbers = map(_number, bytes(text).rstrip(b"\0").splitlines())
        extents = tuple(zip(numbers[::2], numbers[1::2], strict=False))
        ends = [0, *(offset + length for offset, length in extents)]
        ordered = all(end <= offset for end, (offset, _) in zip(ends, extents, strict=False))
        if len(numbers) != 2 * count or not ordered or ends[-1] > size or sum(n for _, n in extents) != self._left:
            raise Damaged("invalid map of a sparse file")
        return extents

    def _take(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self._read(size)
            if not piece:
                raise Damaged("unexpected end of file")
            self._digest.update(piece)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        if any(self._take(size)):
            raise Damaged("data between its members")


def _parse(block: bytes) -> tuple[bytes, int, Member]:
    """The type and size in a header, and its other fields."""
    if block[257:265] != _MAGIC:
        raise Damaged("missing header")
    if sum(block[:148]) + 8 * 32 + sum(block[156:]) != _field(block, 148, 7):
        raise Damaged("checksum mismatch in a header")
    if any(block[329:345].strip(b"0\0")):  # the numbers of a device
        raise Damaged("it contains a device node")
    mode, uid, gid, size = (_field(block, *place) for place in ((100, 8), (108, 8), (116, 8), (124, 12)))
    return block[156:157], size, Member(b"", "file", mode, uid, gid)


def _field(block: bytes, start: int, width: int) -> int:
    text = block[start : start + width].rstrip(b" \0")
    if not re.fullmatch(rb"[0-7]+", text):
        raise Damaged("invalid number in a header")
    return int(text, 8)


def _split(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        length = _number(data[position : position + 20].partition(b" ")[0])
        record = data[position : position + length]
        position += length
        key, equals, value = record.partition(b" ")[2].partition(b"=")
        whole = equals and len(record) == length and value[-1:] == b"\n"
        if not whole or key in records or len(records) >= _RECORDS_LIMIT:
            raise Damaged("invalid extended header")
        records[key] = value[:-1]
    return records


def _complete(code: bytes, size: int, member: Member, records: dict[bytes, bytes]) -> tuple[int, Member]:
    """A member with the values of its records, and the number of bytes that follow."""
    records = dict(records)
    kind = _KINDS.get(code)
    sparse = _SPARSE_NAME in records
    name = records.pop(_SPARSE_NAME if sparse else b"path", b"")
    if kind is None or not name or records.pop(b"hdrcharset", b"BINARY") != b"BINARY":
        raise Damaged("a member of an unknown type")
    if len(name) > _PATH_LIMIT or b"\0" in name:
        raise Damaged(f"invalid file name {shown(name)}")
    size = _number(records.pop(b"size", b"%d" % size))
    uid, gid = (_number(records.pop(key, b"%d" % value)) for key, value in ((b"uid", member.uid), (b"gid", member.gid)))
    time = _TIME.fullmatch(records.pop(b"mtime", b""))
    if time is None or max(uid, gid) >= _NO_ID or member.mode > 0o7777 or (size and kind != "file"):
        raise Damaged(f"invalid numbers for {shown(name)}")
    whole = _number(records.pop(_SPARSE_SIZE, b"")) if sparse else size
    if sparse and any(records.pop(key, b"") != value for key, value in _SPARSE.items()):
        raise Damaged(f"unknown sparse format of {shown(name)}")
    target = records.pop(b"linkpath", b"")
    if len(target) > _TARGET_LIMIT:
        raise Damaged(f"the link target of {shown(name)} is too long")
    opaque, socket = records.pop(_OPAQUE, b"") == b"y", records.pop(_SOCKET, b"") == b"y"
    if bool(target) != (kind in ("link", "symlink")) or (opaque and kind != "directory") or (socket and size):
        raise Damaged(f"the header of {shown(name)} contradicts itself")
    attributes = {_unquoted(k[len(_ATTRIBUTE) :]): v for k, v in records.items() if k.startswith(_ATTRIBUTE)}
    if len(attributes) != len(records) or any(b"\0" in text for text in (target, *attributes)):
        raise Damaged(f"unknown record for {shown(name)}")
    nanoseconds = (int(time[2]) * 10**9 + int(time[3])) * (-1 if time[1] else 1)
    return size, Member(
        name,
        "socket" if socket else kind,
        mode=member.mode,
        uid=uid,
        gid=gid,
        mtime_ns=nanoseconds,
        size=whole,
        target=target,
        opaque=opaque,
        extents=() if sparse else None,
        attributes=attributes,
    )


def _number(text: bytes) -> int:
    if not _NUMBER.fullmatch(text):
        raise Damaged("invalid number")
    return int(text)


def shown(name: bytes) -> str:
    """A name for messages; the middle of a long one is left out."""
    whole = name if len(name) <= _SHOWN else b"%b...%b" % (name[: _SHOWN // 2], name[-_SHOWN // 2 :])
    return quoted(whole.decode("utf-8", "surrogateescape"))
