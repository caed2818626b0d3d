"""Members of a tar archive as pax(1) defines it, in bytes: no name and no value has to be text. Writes, does not read.

Not tarfile, which wants text and cannot say of an attribute's name that it is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BLOCK = 512
END = bytes(2 * BLOCK)
ATTRIBUTE = b"SCHILY.xattr."  # what star, GNU tar, podman and docker call an extended attribute

FILE, LINK, SYMLINK, DIRECTORY, FIFO = b"0", b"1", b"2", b"5", b"6"  # types
_EXTENDED = b"x"

_NAME = 100  # bytes that have room in a header
_IDS = 8**7
_NUMBERS = 8**11  # sizes and times


@dataclass(frozen=True)
class Header:
    """What a member is; its data follows."""

    name: bytes
    type: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""  # what a link points to
    attributes: Mapping[bytes, bytes] = field(default_factory=dict)


def encode(header: Header, reserved: bool = False) -> bytes:
    """The blocks before the data, with what does not fit into a header in an extended one before it.

    `reserved`: so many blocks whatever the size is, for a member that is to be longer than anybody knows yet.
    """
    name = header.name + (b"/" if header.type == DIRECTORY else b"")
    records = {
        b"path": name if len(name) > _NAME or not name.isascii() else b"",
        b"linkpath": header.link if len(header.link) > _NAME or not header.link.isascii() else b"",
        b"uid": _beyond(header.uid, _IDS),
        b"gid": _beyond(header.gid, _IDS),
        b"size": _beyond(header.size, 0 if reserved else _NUMBERS),
        b"mtime": _beyond(header.mtime, _NUMBERS),
    }
    found = {key: value for key, value in records.items() if value}
    found |= {ATTRIBUTE + key: value for key, value in sorted(header.attributes.items())}
    block = _block(header, name)
    if not found:
        return block
    if any(not _is_text(value) for value in found.values()):
        found = {b"hdrcharset": b"BINARY", **found}
    data = b"".join(_record(key, value) for key, value in found.items())
    extended = Header(b"././@PaxHeader", _EXTENDED, size=len(data))
    return _block(extended, extended.name) + data + padding(len(data)) + block


def padding(size: int) -> bytes:
    """What follows data of that size, up to the next block."""
    return bytes(-size % BLOCK)


def _beyond(number: int, limit: int) -> bytes:
    """A number for an extended header, if it has no room in an ordinary one."""
    return b"" if 0 <= number < limit else b"%d" % number


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    """A line that begins with its own length."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest)
    while len(rest) + len(str(length)) != length:
        length = len(rest) + len(str(length))
    return b"%d%s" % (length, rest)


def _block(header: Header, name: bytes) -> bytes:
    fields = (
        name[:_NAME].ljust(_NAME, b"\0"),
        _octal(header.mode, 8),
        _octal(header.uid if header.uid < _IDS else 0, 8),
        _octal(header.gid if header.gid < _IDS else 0, 8),
        _octal(header.size if header.size < _NUMBERS else 0, 12),
        _octal(header.mtime if 0 <= header.mtime < _NUMBERS else 0, 12),
        b" " * 8,  # counted as spaces, then filled in
        header.type,
        header.link[:_NAME].ljust(_NAME, b"\0"),
        b"ustar\x0000",
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)
