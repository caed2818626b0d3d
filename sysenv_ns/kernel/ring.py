"""A stream from a child to this process through memory that both have: what files hold is copied there, and only once.

By a pipe it is copied four times: into the child, into the pipe, out of it, and together. The memory has blocks that
are filled and read in turn; pipes carry how much is in each, and that it has been read.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from io import FileIO
from typing import TypeVar

from sysenv_ns.kernel import children

_T = TypeVar("_T")
_Here = TypeVar("_Here")

_BLOCK = 1 << 20  # bytes
_BLOCKS = 8
_LENGTH = struct.Struct("=I")


def drained(
    function: Callable[[RingWriter], _T],
    kind: type[_T],
    name: str,
    drain: Callable[[Iterator[memoryview]], _Here],
) -> tuple[_T, _Here]:
    """Like children.drained, for very much: `drain` gets pieces, each of which is valid until it asks for the next."""
    ring = _Ring()

    def inside() -> _T:
        writer = ring.writer()
        result = function(writer)
        writer.flush()
        return result

    def here() -> _Here:
        with closing(ring):  # also where it fails: a child that goes on writing gets a BrokenPipeError
            return drain(ring.blocks())

    with closing(ring):
        return children.beside(inside, kind, name, here)


class _Ring:
    """Made before the fork; then the child has the writer, and this process the blocks."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, _BLOCK * _BLOCKS))
        self._full, self._fill = _pipe()
        self._free, self._give_back = _pipe()

    def writer(self) -> RingWriter:
        """In the child."""
        self._full.close()
        self._give_back.close()
        return RingWriter(self._memory, self._fill.fileno(), self._free.fileno())

    def blocks(self) -> Iterator[memoryview]:
        """What the child writes, until it ends."""
        self._fill.close()
        self._free.close()
        give_back = self._give_back.fileno()
        number = 0
        with suppress(BrokenPipeError):
            os.write(give_back, bytes(_BLOCKS))
        while told := self._full.read(_LENGTH.size):
            begin = number * _BLOCK
            yield self._memory[begin : begin + min(_LENGTH.unpack(told)[0], _BLOCK)]
            number = (number + 1) % _BLOCKS
            with suppress(BrokenPipeError):  # the child has ended, and its last blocks are being read
                os.write(give_back, bytes(1))

    def close(self) -> None:
        """Close what is open."""
        for end in (self._full, self._fill, self._free, self._give_back):
            end.close()


def _pipe() -> tuple[FileIO, FileIO]:
    read_end, write_end = os.pipe()
    return FileIO(read_end, "r"), FileIO(write_end, "w")


class RingWriter:
    """The child's side; all is written after `flush`."""

    def __init__(self, memory: memoryview, full: int, free: int) -> None:
        self._memory, self._full, self._free = memory, full, free
        self._number = -1
        self._begin = self._position = self._end = 0  # of the block in the memory, and where the next byte goes

    def write(self, data: bytes) -> None:
        """Write bytes. Raises BrokenPipeError when nobody reads them any more."""
        position = self._position
        end = position + len(data)
        if end <= self._end:  # as nearly always
            self._memory[position:end] = data
            self._position = end
            return
        left = memoryview(data)
        while left:
            room = self._room(len(left))
            room[:] = left[: len(room)]
            left = left[len(room) :]
            self._position += len(room)

    def fill(self, descriptor: int, offset: int, length: int) -> int:
        """Write that part of a file, or as much as fits; returns how much, 0 at its end. Raises OSError."""
        read = os.preadv(descriptor, [self._room(length)], offset)
        self._position += read
        return read

    def flush(self) -> None:
        """Hand over what has been written. Raises BrokenPipeError."""
        if self._position > self._begin:
            os.write(self._full, _LENGTH.pack(self._position - self._begin))
            self._begin = self._position = self._end

    def _room(self, length: int) -> memoryview:
        """Where the next bytes go, at most that many."""
        if self._position == self._end:
            self.flush()
            self._begin, self._end = self._next()
            self._position = self._begin
        return self._memory[self._position : min(self._position + length, self._end)]

    def _next(self) -> tuple[int, int]:
        """Wait for a block that has been read."""
        if not os.read(self._free, 1):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        self._number = (self._number + 1) % _BLOCKS
        return self._number * _BLOCK, (self._number + 1) * _BLOCK
