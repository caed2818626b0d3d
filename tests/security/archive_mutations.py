"""Archives that are wrong in one or several ways, with all checksums right: what is wrong is then what is judged."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from integration.archives import description

from sysenv_ns.archive import manifest, tarball
from sysenv_ns.archive.manifest import ArchivedLayer
from sysenv_ns.archive.tarball import BLOCK, Member
from sysenv_ns.environment.description import Snapshot

_END = manifest.END.encode()
_ACL = bytes.fromhex("0200000001000700ffffffff02000600e80300000400" + "0500ffffffff10000700ffffffff20000500ffffffff")
_NUMBERS = (b"0", b"-1", b"1", b"4095", b"4294967295", b"99999999999", b"9223372036854775808", b"9" * 5000, b"1e9", b"")
NAMES: tuple[bytes, ...] = (
    *(b"", b".", b"..", b"/", b"//", b"/etc/x", b"../x", b"../../../../x", b"layers/0/../../../x", b"layers/0/d/../x"),
    *(
        b"layers",
        b"layers/",
        b"layers/0",
        b"layers/0/",
        b"layers/0//x",
        b"layers/0/./x",
        b"layers/0/x/",
        b"layers/00/x",
    ),
    *(b"layers/9/x", b"layers/-1/x", b"layers/0x/x", b"layers/\xd9\xa1/x", b"LAYERS/0/x", b"origins/0/../x"),
    *(b"origins/9/x", b"end.json/x", b"sysenv-ns.json", b"sysenv-ns.json/x", b"layers/0/nul\0x", b"\0", b"layers/0/\0"),
    *(b"layers/0/new\nline", b"layers/0/\x1b]0;title\x07\x1b[31m", b"layers/0/\xff\xfe", b"layers/0/\xed\xa0\x80"),
    *(
        b"layers/0/.wh.x",
        b"layers/0/.wh..wh..opq",
        b"layers/0/F",
        b"layers/0/" + b"x" * 256,
        b"layers/0/" + b"x" * 5000,
    ),
    *(b"layers/0/" + b"d/" * 2100 + b"x", b"x" * 200_000, b"layers/0/link/x", b"layers/0/file/x", b"layers/0/none/x"),
)
LETTERS = (*(bytes([code]) for code in b"01234567xgLKSDVMNAXI~ "), b"\0", b"\xff")


@dataclass
class Raw:
    """A member in parts: its records, its header without what is made of these, and what follows."""

    records: list[tuple[bytes, bytes]]
    header: bytearray
    data: bytes
    letter: bytes = b"x"  # of the header before the records; nothing: neither
    fields: dict[int, bytes] = field(default_factory=dict)  # of that header


def sample() -> list[Raw]:
    """One of everything that export writes."""
    snapshot = Snapshot("one", 1.0, (), "forged")
    found = description(
        layers=(ArchivedLayer(0, 1), ArchivedLayer(None, None), ArchivedLayer(1, 0)),
        current=(0, 1),
        snapshots=((snapshot, (1,)), (Snapshot("two", 2.0, (), "other", True), (2, 1))),
        origins=2,
        settings="# none\n",
    )
    attributes = {b"user.note": b"\0\xff", b"system.posix_acl_access": _ACL, b"security.capability": bytes(20)}
    members = [
        *((_directory(b"origins/%d" % number), b"") for number in (0, 1)),
        _file(b"origins/0/md5sums", b"text"),
        *((_directory(b"layers/%d" % number), b"") for number in (0, 1, 2)),
        (_directory(b"layers/0/d", opaque=True, attributes={b"system.posix_acl_default": _ACL}), b""),
        _file(b"layers/0/d/inner", b"inner", attributes=attributes, uid=33, gid=33, mtime_ns=-1),
        _file(b"layers/0/file", b"content" * 100),
        (Member(b"layers/0/hard", "link", target=b"layers/0/file"), b""),
        (Member(b"layers/0/link", "symlink", 0o777, target=b"d"), b""),
        (Member(b"layers/0/pipe", "fifo", 0o600), b""),
        (Member(b"layers/0/socket", "socket", 0o600), b""),
        (Member(b"layers/0/sparse", "file", 0o644, size=1 << 20, extents=((0, 600), (8192, 3))), b"x" * 603),
        (Member(b"layers/0/white", "whiteout"), b""),
        _file(b"layers/2/old", b"old"),
    ]
    own = _file(manifest.NAME.encode(), manifest.encode(found))
    last = _file(_END, json.dumps({"sha256": "0" * 64}).encode())
    return [_raw(member, content) for member, content in (own, *members, last)]


def _directory(name: bytes, **more: Any) -> Member:
    return Member(name, "directory", 0o755, **more)


def _file(name: bytes, content: bytes, **more: Any) -> tuple[Member, bytes]:
    return Member(name, "file", 0o644, size=len(content), **more), content


def member(member: Member, content: bytes = b"") -> Raw:
    """One more."""
    return _raw(member, content)


def _raw(member: Member, content: bytes) -> Raw:
    head = tarball.encode(member)
    size = int(head[124:135], 8)
    position = BLOCK + size + -size % BLOCK
    return Raw(
        _records(head[BLOCK : BLOCK + size]),
        bytearray(head[position : position + BLOCK]),
        head[position + BLOCK :] + content,
    )


def _records(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while data:
        length = int(data.partition(b" ")[0])
        key, _, value = data[:length].partition(b" ")[2][:-1].partition(b"=")
        found.append((key, value))
        data = data[length:]
    return found


def written(members: Sequence[Raw]) -> bytes:
    """The archive, with the right checksum in its last member, where that has any."""
    data = b""
    for raw in members:
        if dict(raw.records).get(b"path") == _END and b"sha256" in raw.data and raw.data[-2:] == b'"}':
            checksum = json.dumps({"sha256": hashlib.sha256(data).hexdigest()}).encode()
            data += _written(replace(raw, data=checksum))
        else:
            data += _written(raw)
    return data + tarball.END


def pieces(members: Sequence[Raw]) -> Iterator[int]:
    """Where each member of the archive ends, and its parts."""
    position = 0
    for raw in members:
        yield from (position + BLOCK, position + len(_written(raw)))
        position += len(_written(raw))


def _written(raw: Raw) -> bytes:
    records = b"".join(_record(key, value) for key, value in raw.records)
    before = bytearray(raw.header)
    before[124:136] = b"%011o\0" % len(records)
    before[156:157] = raw.letter or b"x"
    for place, value in raw.fields.items():
        before[place : place + len(value)] = value
    head = _summed(before) + records + tarball.padding(len(records)) if raw.letter else b""
    return head + _summed(raw.header) + raw.data + tarball.padding(len(raw.data))


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest + len(str(rest))))
    return b"%d %b=%b\n" % (length, key, value)


def _summed(header: bytearray) -> bytes:
    block = bytes(header[:148]) + b" " * 8 + bytes(header[156:BLOCK])
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def mutated(seed: int) -> bytes:
    """One to three changes."""
    source = random.Random(seed)
    members = sample()
    for _ in range(source.randint(1, 3)):
        source.choice(_CHANGES)(source, members)
    return written(members)


def _change_record(source: random.Random, members: list[Raw]) -> None:
    raw = source.choice(members)
    keys = [key for key, _ in raw.records]
    further = (b"size", b"uid", b"gid", b"mtime", b"linkpath", b"hdrcharset", b"comment", b"SYSENVNS.opaque")
    more = (b"SYSENVNS.socket", b"GNU.sparse.name", b"GNU.sparse.realsize", b"GNU.sparse.major", b"SCHILY.xattr.user.a")
    attributes = (
        b"SCHILY.xattr.trusted.overlay.redirect",
        b"SCHILY.xattr.user.\0",
        b"SCHILY.xattr.",
        b"SCHILY.acl.access",
    )
    key = source.choice([*keys, *further, *more, *attributes])
    value = source.choice([*_NUMBERS, *NAMES, b"y", b"1.000000000", b"-1.5", b"inf", b"\0", source.randbytes(20)])
    number = next((n for n, record in enumerate(raw.records) if record[0] == key), len(raw.records))
    raw.records[number : number + source.randint(0, 1)] = [(key, value)]


def _drop_record(source: random.Random, members: list[Raw]) -> None:
    raw = source.choice(members)
    if raw.records:
        raw.records.pop(source.randrange(len(raw.records)))


def _rename(source: random.Random, members: list[Raw]) -> None:
    raw, other = source.choice(members), source.choice(members)
    name = dict(other.records).get(b"path", b"x")
    raw.records = [(k, source.choice([name, name + b"/x", *NAMES]) if k == b"path" else v) for k, v in raw.records]


def _change_header(source: random.Random, members: list[Raw]) -> None:
    place, width = source.choice([(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (157, 100), (257, 8)])
    place, width = source.choice([(place, width), (265, 32), (329, 8), (337, 8), (345, 155)])
    octal = (b"%o" % source.choice([0, 1, 8**width - 1, 0o7777, 0o177777])).rjust(width, b"0")[-width:]
    large = b"\x80" + source.randbytes(width - 1)
    value = source.choice(
        [octal, large, b"\xff" * width, b" " * width, b"-1".ljust(width, b"\0"), source.randbytes(width)]
    )
    raw = source.choice(members)
    if source.random() < 0.3:
        raw.fields[place] = value
    else:
        raw.header[place : place + width] = value


def _change_letter(source: random.Random, members: list[Raw]) -> None:
    raw = source.choice(members)
    if source.random() < 0.3:
        raw.letter = source.choice([*LETTERS, b""])
    else:
        raw.header[156:157] = source.choice(LETTERS)


def _reorder(source: random.Random, members: list[Raw]) -> None:
    number, other = source.randrange(len(members)), source.randrange(len(members))
    match source.randrange(4):
        case 0:
            members[number], members[other] = members[other], members[number]
        case 1:
            members.insert(other, copy.deepcopy(members[number]))
        case 2 if len(members) > 1:
            members.pop(number)
        case _:
            members.insert(other, members.pop(number))


def _change_data(source: random.Random, members: list[Raw]) -> None:
    raw = source.choice(members)
    place = source.randrange(len(raw.data) + 1)
    new = source.choice([b"", b"\0", b"9", b"\n", b"[" * 2000, source.randbytes(600), b"9" * 5000 + b"\n"])
    raw.data = raw.data[:place] + new + raw.data[place + source.randint(0, 3) :]
    if source.random() < 0.7:
        raw.header[124:136] = b"%011o\0" % len(raw.data)


_VALUES: tuple[Callable[[], Any], ...] = (
    *(lambda: None, lambda: True, lambda: 0, lambda: -1, lambda: 10**4000, lambda: 1e300, lambda: float("nan")),
    *(lambda: float("-inf"), lambda: "", lambda: "\ud800", lambda: "a\0b", lambda: "x" * 100_000, lambda: "../../x"),
    *(lambda: [], lambda: {}, lambda: [[]] * 500, lambda: list(range(9999)), lambda: {"a": {}}, lambda: [0, 1, 1]),
    *(lambda: "9" * 5000, lambda: 1.5, lambda: "\x1b[31m", lambda: 'bind = ["/etc"]\n', lambda: "a." * 8000 + "a = 1"),
    *(lambda: "a = " + "[" * 10_000, lambda: 2**63, lambda: "full", lambda: [0, 2], lambda: 9999),
)


def _change_description(source: random.Random, members: list[Raw]) -> None:
    """Another value anywhere in it."""
    raw = next((m for m in members if m.data.startswith(b'{\n "format"')), members[0])
    try:
        data: Any = json.loads(raw.data)
    except (ValueError, RecursionError):  # it has been changed already
        return
    place = data
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = source.choice(keys)
        if isinstance(place[key], dict | list) and source.random() < 0.8:
            place = place[key]
            continue
        if source.random() < 0.2:
            del place[key]
        else:
            place[key] = source.choice(_VALUES)()
        break
    text = json.dumps(data, indent=1, default=str) if source.random() < 0.95 else "[" * 100_000
    raw.data = text.encode()
    raw.header[124:136] = b"%011o\0" % len(raw.data)


_CHANGES = (
    *(_change_record, _change_record, _drop_record, _rename, _rename, _change_header, _change_letter, _reorder),
    *(_change_data, _change_description, _change_description),
)
