"""The form of members in an archive: pax (pax(1), tar(5)) as far as export writes it; knows nothing of environments.

Not tarfile: names and attributes are bytes here, times have nanoseconds, all bytes before a member have a checksum, and
what export does not write is refused. Other programs for tar can list and unpack it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal["file", "directory", "symlink", "link", "fifo", "socket", "whiteout"]
Extents = tuple[tuple[int, int], ...]

BLOCK = 512
END = bytes(2 * BLOCK)
_LIMIT = 16 << 20  # bytes of a member's records: the name, and all attributes that a file system can keep
_CHUNK = 1 << 20
_NO_ID = (1 << 32) - 1  # what chown(2) takes for "leave it"
_TYPES: Mapping[Kind, bytes] = {
    **{"file": b"0", "link": b"1", "symlink": b"2", "whiteout": b"3", "directory": b"5", "fifo": b"6"},
    "socket": b"0",  # pax has none: a file, and a record that says so
}
_KINDS: Mapping[bytes, Kind] = {code: kind for kind, code in _TYPES.items() if kind != "socket"}
_RECORDS = b"x"
_MAGIC = b"ustar\x0000"
# With eight blanks in the place of the checksum, no names of users, 0 for the numbers of a device.
_HEADER = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" + b" " * 8 + b"%b%b%b" + bytes(64) + b"0000000\0" * 2 + bytes(167)
_ATTRIBUTE = b"SCHILY.xattr."
_OPAQUE, _SOCKET = b"SYSENVNS.opaque", b"SYSENVNS.socket"
_SPARSE = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
_SPARSE_NAME, _SPARSE_SIZE = b"GNU.sparse.name", b"GNU.sparse.realsize"
_TIME = re.compile(rb"(-?)([0-9]{1,18})\.([0-9]{9})")
_NUMBER = re.compile(rb"[0-9]{1,18}")
_LARGEST = {8: 0o7777777, 12: 0o77777777777}  # what a field of so many bytes holds


class Damaged(Exception):
    """What is read is no archive of ours, or not a whole one; the text says where."""


@dataclass(frozen=True)
class Member:
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
    attributes: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def stored(self) -> int:
        """How many bytes follow its header."""
        if self.extents is None:
            return self.size
        return len(_sparse_map(self.extents)) + sum(length for _, length in self.extents)


def encode(member: Member) -> bytes:
    """What precedes the data of a member: its records, its header, and the map of a sparse file."""
    numbers = {b"uid": (member.uid, 8), b"gid": (member.gid, 8), b"size": (member.stored, 12)}
    records = [(key, b"%d" % value) for key, (value, width) in numbers.items() if value > _LARGEST[width]]
    records.append((b"mtime", _time(member.mtime_ns)))
    if member.extents is None:
        records.append((b"path", member.name))
    else:
        records += [*_SPARSE.items(), (_SPARSE_NAME, member.name), (_SPARSE_SIZE, b"%d" % member.size)]
    if member.target:
        records.append((b"linkpath", member.target))
    records += [(_OPAQUE, b"y")] if member.opaque else []
    records += [(_SOCKET, b"y")] if member.kind == "socket" else []
    records += [(_ATTRIBUTE + _quoted(key), value) for key, value in sorted(member.attributes.items())]
    data = _records(records)
    head = _header(Member(member.name, "file", mode=0o644), _RECORDS, len(data))
    body = b"" if member.extents is None else _sparse_map(member.extents)
    return b"".join((head, data, padding(len(data)), _header(member, _TYPES[member.kind], member.stored), body))


def padding(size: int) -> bytes:
    """What follows so many bytes to the end of the block."""
    return bytes(-size % BLOCK)


def _records(records: list[tuple[bytes, bytes]]) -> bytes:
    if not all(_is_text(key) and _is_text(value) for key, value in records):
        records = [(b"hdrcharset", b"BINARY"), *records]
    return b"".join(_record(key, value) for key, value in records)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    """A record begins with its own length in decimal digits, which count too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _header(member: Member, code: bytes, size: int) -> bytes:
    """A number that has no room is 0 here, and in a record."""
    mode, uid, gid = (number if number <= _LARGEST[8] else 0 for number in (member.mode, member.uid, member.gid))
    size, seconds = (number if number <= _LARGEST[12] else 0 for number in (size, max(0, member.mtime_ns // 10**9)))
    name, target = member.name[:100], member.target[:100]
    block = _HEADER % (name.ljust(100, b"\0"), mode, uid, gid, size, seconds, code, target.ljust(100, b"\0"), _MAGIC)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


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
    """Reads members one after the other from what gives the next bytes. Raises Damaged, and what `read` raises."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._digest = hashlib.sha256()
        self._before = self._digest
        self._left = self._pad = 0  # bytes of the current member's data, and to the end of its last block
        self._member = Member(b"", "file")

    @property
    def checksum(self) -> str:
        """The SHA-256 of all that lies before the current member."""
        return self._before.hexdigest()

    def next(self) -> Member | None:
        """The next member; None at the end, after which nothing may follow."""
        for _ in self.data():
            pass
        self._before = self._digest.copy()
        block = self._take(BLOCK)
        if block == bytes(BLOCK):
            if self._take(BLOCK) != bytes(BLOCK) or self._read(1):
                raise Damaged("something follows its end")
            return None
        code, size, _ = _parse(block)
        if code != _RECORDS or size > _LIMIT:
            raise Damaged("a member has no records")
        records = _split(self._take(size))
        self._skip(-size % BLOCK)
        code, size, member = _parse(self._take(BLOCK))
        self._left, member = _complete(code, size, member, records)
        self._pad = -self._left % BLOCK
        if member.extents is not None:
            member = replace(member, extents=self._extents(member.size))
        self._member = member
        return member

    def data(self) -> Iterator[tuple[int, bytes]]:
        """The content of the current member in pieces, with the place of each; holes are left out.

        To be read to its end, or not at all.
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
                raise Damaged("the map of a sparse file does not end")
            block = self._take(BLOCK)
            text += block
            lines += block.count(b"\n")
            if lines and not wanted:
                wanted = 1 + 2 * _number(bytes(text.partition(b"\n")[0]))
        self._left -= len(text)
        count, *numbers = map(_number, bytes(text).rstrip(b"\0").splitlines())
        extents = tuple(zip(numbers[::2], numbers[1::2], strict=False))
        ends = [0, *(offset + length for offset, length in extents)]
        ordered = all(end <= offset for end, (offset, _) in zip(ends, extents, strict=False))
        if len(numbers) != 2 * count or not ordered or ends[-1] > size or sum(n for _, n in extents) != self._left:
            raise Damaged("the map of a sparse file is wrong")
        return extents

    def _take(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self._read(size)
            if not piece:
                raise Damaged("it ends too early")
            self._digest.update(piece)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        if any(self._take(size)):
            raise Damaged("there is something between its members")


def _parse(block: bytes) -> tuple[bytes, int, Member]:
    """The type and size in a header, and what else it tells."""
    if block[257:265] != _MAGIC:
        raise Damaged("a header is missing")
    if sum(block[:148]) + 8 * 32 + sum(block[156:]) != _field(block, 148, 7):
        raise Damaged("a header has the wrong checksum")
    if any(block[329:345].strip(b"0\0")):  # the numbers of a device
        raise Damaged("it has a device node")
    mode, uid, gid, size = (_field(block, *place) for place in ((100, 8), (108, 8), (116, 8), (124, 12)))
    return block[156:157], size, Member(b"", "file", mode, uid, gid)


def _field(block: bytes, start: int, width: int) -> int:
    text = block[start : start + width].rstrip(b" \0")
    if not re.fullmatch(rb"[0-7]+", text):
        raise Damaged("a header has a wrong number")
    return int(text, 8)


def _split(data: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        length = _number(data[position : position + 20].partition(b" ")[0])
        record = data[position : position + length]
        position += length
        key, equals, value = record.partition(b" ")[2].partition(b"=")
        if not equals or len(record) != length or value[-1:] != b"\n" or key in records:
            raise Damaged("the records of a member are wrong")
        records[key] = value[:-1]
    return records


def _complete(code: bytes, size: int, member: Member, records: dict[bytes, bytes]) -> tuple[int, Member]:
    """A member with what its records say of it, and how many bytes follow."""
    records = dict(records)
    kind = _KINDS.get(code)
    sparse = _SPARSE_NAME in records
    name = records.pop(_SPARSE_NAME if sparse else b"path", b"")
    if kind is None or not name or records.pop(b"hdrcharset", b"BINARY") != b"BINARY":
        raise Damaged("a member is of no type that an export has")
    size = _number(records.pop(b"size", b"%d" % size))
    uid, gid = (_number(records.pop(key, b"%d" % value)) for key, value in ((b"uid", member.uid), (b"gid", member.gid)))
    time = _TIME.fullmatch(records.pop(b"mtime", b""))
    if time is None or max(uid, gid) >= _NO_ID or member.mode > 0o7777 or (size and kind != "file"):
        raise Damaged(f"{shown(name)} has wrong numbers")
    whole = _number(records.pop(_SPARSE_SIZE, b"")) if sparse else size
    if sparse and any(records.pop(key, b"") != value for key, value in _SPARSE.items()):
        raise Damaged(f"{shown(name)} is sparse in an unknown way")
    target = records.pop(b"linkpath", b"")
    opaque, socket = records.pop(_OPAQUE, b"") == b"y", records.pop(_SOCKET, b"") == b"y"
    if bool(target) != (kind in ("link", "symlink")) or (opaque and kind != "directory") or (socket and size):
        raise Damaged(f"{shown(name)} is not what it says")
    attributes = {_unquoted(k[len(_ATTRIBUTE) :]): v for k, v in records.items() if k.startswith(_ATTRIBUTE)}
    if len(attributes) != len(records):
        raise Damaged(f"{shown(name)} has a record that is not known")
    nanoseconds = (int(time[2]) * 10**9 + int(time[3])) * (-1 if time[1] else 1)
    return size, Member(
        *(name, "socket" if socket else kind, member.mode, uid, gid, nanoseconds, whole, target, opaque),
        extents=() if sparse else None,
        attributes=attributes,
    )


def _number(text: bytes) -> int:
    if not _NUMBER.fullmatch(text):
        raise Damaged("a number is wrong")
    return int(text)


def shown(name: bytes) -> str:
    """A name in a message."""
    return repr(name.decode("utf-8", "backslashreplace"))
