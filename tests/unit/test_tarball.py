"""The form of members in an archive: exact, readable for other programs, and nothing else is taken for it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.archive import tarball
from sysenv_ns.archive.tarball import Damaged, Member, Reader, TooLarge, encode

_TEXT = st.binary(min_size=1, max_size=300).map(lambda data: data.replace(b"\0", b"\n"))
_ATTRIBUTES = st.dictionaries(_TEXT, st.binary(max_size=600), max_size=4)
_IDS = st.integers(0, (1 << 32) - 2)
_TIMES = st.integers(-(10**19), 10**19)


@st.composite
def _members(draw: st.DrawFn) -> tuple[Member, bytes]:
    kind: tarball.Kind = draw(st.sampled_from(["file", "directory", "symlink", "link", "fifo", "socket", "whiteout"]))
    content = draw(st.binary(max_size=2000)) if kind == "file" else b""
    extents = None
    size = len(content)
    if kind == "file" and draw(st.booleans()):
        ends = sorted(draw(st.sets(st.integers(0, 1 << 40), min_size=0, max_size=8)))
        extents = tuple((start, min(end - start, 300)) for start, end in zip(ends[::2], ends[1::2], strict=False))
        size = (ends[-1] if ends else 0) + draw(st.integers(0, 1 << 40))
        content = bytes(sum(length for _, length in extents))
    member = Member(
        draw(_TEXT),
        kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(_IDS),
        gid=draw(_IDS),
        mtime_ns=draw(_TIMES),
        size=size,
        target=draw(_TEXT) if kind in ("symlink", "link") else b"",
        opaque=kind == "directory" and draw(st.booleans()),
        extents=extents,
        attributes=draw(_ATTRIBUTES),
    )
    return member, content


def _archive(members: list[tuple[Member, bytes]]) -> bytes:
    parts = (encode(member) + content + tarball.padding(member.stored) for member, content in members)
    return b"".join(parts) + tarball.END


def _read(data: bytes) -> Iterator[tuple[Member, bytes]]:
    reader = Reader(io.BytesIO(data).read)
    while member := reader.next():
        yield member, b"".join(piece for _, piece in reader.data())


@given(st.lists(_members(), max_size=4))
def test_what_is_written_is_read(members: list[tuple[Member, bytes]]) -> None:
    assert list(_read(_archive(members))) == members


@given(st.lists(_members(), min_size=1, max_size=2), st.data())
def test_damage_is_found_or_harmless(members: list[tuple[Member, bytes]], data: st.DataObject) -> None:
    """One wrong byte, or a missing end, is no other error than this one."""
    whole = _archive(members)
    place = data.draw(st.integers(0, len(whole) - 1))
    for wrong in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
        try:
            list(_read(wrong))
        except Damaged:
            pass
        else:
            assert len(wrong) == len(whole)


def test_the_same_members_are_always_the_same_bytes() -> None:
    """Layers are known by their digests."""
    kinds: tuple[tarball.Kind, ...] = ("file", "directory", "symlink", "link", "fifo", "socket", "whiteout")
    targets = {"symlink": b"t" * 120, "link": b"t" * 120}
    members = [
        Member(b"layers/0/%s" % kind.encode() * 9, kind, 0o4755, 1, 2, 3_000_000_007, target=targets.get(kind, b""))
        for kind in kinds
    ]
    # Records have their own length in front, which has two digits from 10 on, three from 100 on, and so on.
    lengths = (*range(1, 130), *range(980, 1000), 3999)
    members += [Member(b"a" * length, "file", 0o644, size=length) for length in lengths]
    members += [
        Member(b"\xff\n", "file", 0o7777, 1 << 31, 1 << 21, -1, 1 << 40),
        Member("\u00e4".encode(), "directory", 0o700, mtime_ns=1 << 80, opaque=True),
        Member(b"s", "file", 0o644, size=1 << 34, extents=((0, 9), (1 << 30, 5))),
        Member(b"x", "file", 0o644, attributes={b"user.b": b"\xff", b"user.a%=\n": b""}),
    ]
    digest = hashlib.sha256(b"".join(map(encode, members))).hexdigest()
    assert digest == "39be446dc4d7c1dcb2f4397ba5b65b95a3bbb60318ce4aa66d49f0a3ae167063"


def test_other_programs_read_it() -> None:
    """Python's tarfile knows pax and the sparse files of GNU tar."""
    attributes = {b"user.note": b"text"}
    members = [
        (Member(b"d", "directory", 0o1755, 1, 2, 3_000_000_000), b""),
        (Member("d/\u00e4\n".encode() * 40, "file", 0o600, 3_000_000, 5, 6, 5, attributes=attributes), b"hello"),
        (Member(b"d/link", "symlink", target=b"/etc"), b""),
        (Member(b"d/sparse", "file", 0o644, size=1 << 20, extents=((4096, 3), (8192, 2))), b"abcde"),
    ]
    with tarfile.open(fileobj=io.BytesIO(_archive(members))) as archive:
        found = archive.getmembers()
        assert [entry.name.encode() for entry in found] == [member.name for member, _ in members]
        assert (found[1].uid, found[1].gid, found[1].mode, found[1].size) == (3_000_000, 5, 0o600, 5)
        assert found[1].pax_headers["SCHILY.xattr.user.note"] == "text"
        assert (found[0].mtime, found[0].isdir(), found[2].linkname) == (3, True, "/etc")
        stream = archive.extractfile(found[3])
        assert stream is not None
        data = stream.read()
    assert (len(data), data[4096:4099], data[8192:8194], data.count(b"\0")) == (1 << 20, b"abc", b"de", (1 << 20) - 5)


def test_the_checksum_is_that_of_all_before() -> None:
    first = (Member(b"a", "file", size=3), b"abc")
    reader = Reader(io.BytesIO(_archive([first, (Member(b"b", "fifo"), b"")])).read)
    reader.next()
    reader.next()
    assert reader.checksum == hashlib.sha256(_archive([first])[: -len(tarball.END)]).hexdigest()


def _with(name: str, form: int = tarfile.PAX_FORMAT, **fields: Any) -> bytes:
    """An archive as tarfile writes it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        entry = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(entry, key, value)
        archive.addfile(entry)
    return stream.getvalue()


_RECORDS = {"mtime": "0.000000000", "path": "a"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 1024,
        _with("plain"),
        _with("gnu", form=tarfile.GNU_FORMAT),
        _with("device", type=tarfile.CHRTYPE, devmajor=1, devminor=3, pax_headers=_RECORDS),
        _with("unknown", pax_headers=_RECORDS | {"comment": "x"}),
        _archive([]) + b"x",
        _archive([(Member(b"", "file"), b"")]),
        _archive([(Member(b"a", "link"), b"")]),
        _archive([(Member(b"a", "file", target=b"b"), b"")]),
        _archive([(Member(b"a", "file", size=9, extents=((5, 2), (4, 2))), b"1234")]),
        _archive([(Member(b"a", "file", size=9, extents=((5, 9),)), b"123456789")]),
        _archive([(Member(b"a\0b", "file"), b"")]),
        _archive([(Member(b"a" * 5000, "file"), b"")]),
        _archive([(Member(b"a", "symlink", target=b"b\0"), b"")]),
        _archive([(Member(b"a", "symlink", target=b"b" * 5000), b"")]),
        _archive([(Member(b"a", "file", attributes={b"user.a\0": b""}), b"")]),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        list(_read(data))


def test_what_no_reader_would_take_is_not_written() -> None:
    for attributes in ({b"user.a": bytes(5 << 20)}, {b"user.%d" % number: b"" for number in range(10_000)}):
        with pytest.raises(TooLarge):
            encode(Member(b"a", "file", attributes=attributes))


def test_a_long_name_is_shown_without_its_middle() -> None:
    assert tarball.shown(b"a" * 1000 + b"\x1b\xff") == f'"{"a" * 200}...{"a" * 198}\\x1b\\xff"'
