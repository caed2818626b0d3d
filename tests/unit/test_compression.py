"""Both libraries for Zstandard do the same."""

from __future__ import annotations

import io
import random

import pytest
import zstandard

from sysenv_ns.archive import compression

_CONTENT = random.Random(1).randbytes(3 << 20) + bytes(5 << 20)
_WINDOW_OF_A_GIGABYTE = b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00"  # RFC 8878
_EMPTY = b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"
Library = str


@pytest.fixture(params=["standard", "zstandard"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Library:
    if request.param == "zstandard":
        monkeypatch.setattr(compression, "zstandard", zstandard)
        monkeypatch.setattr(compression, "Error", zstandard.ZstdError)
    return str(request.param)


def _compressed(content: bytes) -> bytes:
    stream = io.BytesIO()
    with compression.writer(stream) as writer:
        for start in range(0, len(content), 1 << 20):
            writer.write(content[start : start + (1 << 20)])
    return stream.getvalue()


@pytest.mark.usefixtures("library")
def test_what_is_written_is_read() -> None:
    data = _compressed(_CONTENT)
    assert data[4] & 4, "no checksum"
    assert len(data) < 4 << 20
    assert compression.reader(io.BytesIO(data)).read() == _CONTENT
    assert compression.reader(io.BytesIO(_EMPTY + data + _EMPTY + data)).read() == _CONTENT * 2
    assert compression.reader(io.BytesIO(_EMPTY * 20_000)).read(1) == b""
    stream = compression.reader(io.BytesIO(data))
    assert b"".join(iter(lambda: stream.read(100_003), b"")) == _CONTENT


@pytest.mark.usefixtures("library")
def test_what_is_cut_off_is_an_end_that_comes_too_early() -> None:
    data = _compressed(_CONTENT)
    for size in (0, 1, 3, 5, 100, len(data) // 2, len(data) - 5, len(data) - 1, len(data) + 3):
        with pytest.raises(EOFError):
            compression.reader(io.BytesIO((data + data)[:size])).read()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("little", [0, 1 << 30], ids=["quick", "thorough"])
def test_a_dictionary(little: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it takes nothing; without it, or with another one, what was compressed is of no use."""
    monkeypatch.setattr(compression, "_LITTLE", little)
    monkeypatch.setattr(compression, "_WINDOW_LOG", 20)
    content, dictionary = _CONTENT[:300_000] + b"new" + _CONTENT[300_000:600_000], _CONTENT[: 1 << 19]
    data = compression.compressed(content, dictionary)
    assert data[4] & 4, "no checksum"
    assert len(data) < 600_000 - (1 << 19) + 1000
    assert compression.reader(io.BytesIO(data), dictionary).read() == content
    assert compression.reader(io.BytesIO(compression.compressed(content))).read() == content
    for wrong in (b"", dictionary[:-1], _CONTENT[1 : len(dictionary) + 1]):
        with pytest.raises(compression.Error):
            compression.reader(io.BytesIO(data), wrong).read()
    with pytest.raises(EOFError):
        compression.reader(io.BytesIO(data[:-1]), dictionary).read()


@pytest.mark.usefixtures("library")
def test_what_is_damaged_is_an_error() -> None:
    data = _compressed(b"content" * 1000)
    for damaged in (b"no frame at all", data[:-2] + b"xx", data + b"more text", _WINDOW_OF_A_GIGABYTE):
        with pytest.raises((compression.Error, EOFError)):
            compression.reader(io.BytesIO(damaged)).read()
    with pytest.raises(compression.Error):
        compression.reader(io.BytesIO(_WINDOW_OF_A_GIGABYTE)).read()
