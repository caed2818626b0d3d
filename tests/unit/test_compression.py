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
def test_what_is_damaged_is_an_error() -> None:
    data = _compressed(b"content" * 1000)
    for damaged in (b"no frame at all", data[:-2] + b"xx", data + b"more text", _WINDOW_OF_A_GIGABYTE):
        with pytest.raises((compression.Error, EOFError)):
            compression.reader(io.BytesIO(damaged)).read()
    with pytest.raises(compression.Error):
        compression.reader(io.BytesIO(_WINDOW_OF_A_GIGABYTE)).read()
