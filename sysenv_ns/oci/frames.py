"""Several streams, one after the other, in one pipe, each in blocks; knows nothing of their content."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LENGTH = struct.Struct("=I")


class FrameWriter(io.RawIOBase):
    """One of the streams; all its blocks but the last have the given size. To be finished, with a block of nothing."""

    def __init__(self, pipe: BinaryIO, size: int) -> None:
        self._pipe = pipe
        self._size = size
        self._waiting = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Add a piece. Raises OSError."""
        view = memoryview(data)
        self._waiting += view
        while len(self._waiting) >= self._size:
            self._send(bytes(self._waiting[: self._size]))
            del self._waiting[: self._size]
        return view.nbytes

    def finish(self) -> None:
        """Write the end. Raises OSError."""
        if self._waiting:
            self._send(bytes(self._waiting))
        self._send(b"")

    def _send(self, block: bytes) -> None:
        self._pipe.write(_LENGTH.pack(len(block)))
        self._pipe.write(block)


def blocks(pipe: BinaryIO) -> Iterator[bytes]:
    """The blocks of the next stream. Raises OSError; EOFError where it breaks off."""
    while length := _LENGTH.unpack(exactly(pipe, _LENGTH.size))[0]:
        yield exactly(pipe, length)


def exactly(pipe: BinaryIO, length: int) -> bytes:
    """That many bytes of what comes next. Raises OSError, EOFError."""
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data
