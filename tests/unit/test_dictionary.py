"""Dictionaries of layers: what is taken from the layers below, how it is found again, and what is made of nonsense."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sysenv_ns.archive import compression
from sysenv_ns.archive.tarball import Damaged, Member
from sysenv_ns.registry import dictionary
from sysenv_ns.registry.dictionary import FormerFiles, Head, Needed, Piece, read_head, write_former


def _uppers(tmp_path: Path, *layers: Mapping[str, bytes]) -> list[str]:
    """Directories with these files."""
    for number, files in enumerate(layers):
        for name, data in files.items():
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return [str(tmp_path / str(number)) for number in range(len(layers))]


def _former(names: list[bytes], uppers: list[str]) -> tuple[list[tuple[bytes, int]], bytes]:
    stream = io.BytesIO()
    found = write_former(names, uppers, stream)
    return [(one.name, one.below) for one in found], stream.getvalue()


def test_files_are_taken_from_the_uppermost_layer_that_has_them(tmp_path: Path) -> None:
    """The largest first; a layer that has something else of that name counts as one that has nothing."""
    uppers = _uppers(
        tmp_path,
        {"a": b"upper", "empty": b"", "n": b"n"},
        {"a": b"lower", "d/b": b"of the lower", "l/x": b"lx", "empty": b"not"},
    )
    (tmp_path / "0/d").symlink_to("../1/d")
    os.mkfifo(tmp_path / "0/f")
    (tmp_path / "1/f").write_bytes(b"f")
    os.link(tmp_path / "0/n", tmp_path / "0/m")
    names = [b"a", b"d/b", b"empty", b"f", b"l", b"m", b"n", b"new", b"\xff"]
    assert _former(names, uppers) == ([(b"d/b", 1), (b"a", 0), (b"empty", 1), (b"f", 1)], b"of the loweruppernotf")


def test_no_more_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionary, "LIMIT", 10)
    (upper,) = _uppers(tmp_path, {"eight": b"8" * 8, "three": b"333", "two": b"22", "eleven": b"1" * 11})
    assert _former([b"three", b"two", b"eleven", b"eight"], [upper]) == ([(b"eight", 0), (b"two", 0)], b"8888888822")
    monkeypatch.setattr(dictionary, "_NAMES_LIMIT", 8)
    assert _former([b"three", b"two"], [upper]) == ([(b"three", 0)], b"333")


def test_a_head_is_read_as_it_was_written() -> None:
    head = Head.of([b"var/lib/dpkg/status", b"\xff"], b"content")
    stream = io.BytesIO(head.encode() + b"frame")
    assert read_head(stream) == head
    assert stream.read() == b"frame"
    assert compression.reader(io.BytesIO(head.encode() + compression.compressed(b"x"))).read() == b"x"


def _frame(data: bytes, magic: int = 0x184D2A50, size: int | None = None) -> bytes:
    return struct.pack("<II", magic, len(data) if size is None else size) + data


_NAMES = compression.compressed(b"name")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"P*M\x18",
        _frame(b""),
        _frame(bytes(32)),
        _frame(bytes(32) + _NAMES, magic=0xFD2FB528),
        _frame(bytes(32) + _NAMES, size=1 << 31),
        _frame(bytes(32) + _NAMES[:-1]),
        _frame(bytes(32) + b"name"),
        _frame(bytes(32) + compression.compressed(b"")),
        _frame(bytes(32) + compression.compressed(bytes(1 << 30 >> 4))),
    ],
)
def test_no_head(data: bytes) -> None:
    with pytest.raises(Damaged, match="head"):
        read_head(io.BytesIO(data))


def _read(former: FormerFiles, tree: str, files: Mapping[bytes, bytes | Member]) -> None:
    """A tree is read; a member without content is nothing but a hole."""
    for name, content in files.items():
        if isinstance(content, Member):
            member, pieces = content, list[Piece]()
        else:
            member, pieces = Member(name, "file", size=len(content)), [(0, content[:2]), (2, content[2:])]
        assert [*former.watched(tree, name, member, iter(pieces))] == pieces


def _needed(names: list[bytes], content: bytes, *below: str) -> Needed:
    return Needed(Head.of(names, content), below)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.BufferedRandom]:
    with (tmp_path / "kept").open("w+b") as stream:
        yield stream


def test_a_dictionary_is_made_of_what_was_read(file: io.BufferedRandom) -> None:
    needed = {
        "layers/1": _needed([b"a", b"b"], b"upper a" + b"lower b", "layers/2", "layers/3"),
        "layers/2": _needed([b"a", b"hole"], b"lower a" + bytes(5), "layers/3"),
    }
    former = FormerFiles(needed, file)
    hole = Member(b"", "file", size=5, extents=())
    _read(former, "layers/3", {b"a": b"lower a", b"b": b"lower b", b"other": b"other", b"hole": hole})
    assert former.dictionary(needed["layers/2"]) == b"lower a" + bytes(5)
    _read(former, "layers/2", {b"a": b"upper a", b"b": Member(b"b", "symlink", target=b"a")})
    _read(former, "layers/2", {b"b": Member(b"b", "file")})
    assert former.dictionary(needed["layers/1"]) == b"upper alower b"
    assert b"other" not in file.raw.readall()


@pytest.mark.parametrize(
    ("needed", "word"),
    [
        (_needed([b"a"], b"other", "layers/2"), "not those"),
        (_needed([b"a"], b"content", "layers/1"), "no layer below"),  # itself
        (_needed([b"a", b"b"], b"content", "layers/2"), "no layer below"),
        (_needed([b""], b"", "layers/2"), "no layer below"),
        (_needed([b"a"] * 10, b"content" * 10, "layers/2"), "too large"),
        (_needed([b"large"], b"l" * 60, "layers/2"), "no layer below"),
    ],
)
def test_a_dictionary_of_something_else(
    needed: Needed, word: str, file: io.BufferedRandom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dictionary, "LIMIT", 50)
    former = FormerFiles({"layers/1": needed}, file)
    _read(former, "layers/2", {b"a": b"content", b"large": b"l" * 60})
    with pytest.raises(Damaged, match=word):
        former.dictionary(needed)


def test_names_are_not_kept_without_bound(file: io.BufferedRandom, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as can be in a manifest: what is known of each takes no more than its bytes."""
    monkeypatch.setattr(dictionary, "_MANY", 1000)
    many = {
        f"layers/{number}": _needed([b"%d" % n for n in range(number, number + 900)], b"", "layers/0")
        for number in range(0, 9000, 900)
    }
    tracemalloc.start()
    with pytest.raises(Damaged, match="too many files"):
        FormerFiles(many, file)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
