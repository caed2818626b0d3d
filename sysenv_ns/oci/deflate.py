"""A gzip stream (RFC 1952) compressed by several threads; the result does not depend on their number."""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

BLOCK = 1 << 20  # bytes that are deflated at once
_WINDOW = 1 << 15  # bytes before a block that its matches may reach back to (RFC 1951)
_LEVEL = 4  # of 1 to 9: twice as fast as 6, and 3 % larger
_UNKNOWN_SYSTEM = 255
_HEADER = struct.pack("<2sBBIBB", b"\x1f\x8b", zlib.DEFLATED, 0, 0, 0, _UNKNOWN_SYSTEM)


class Gzip:
    """Takes blocks in order, and hands what they become to `write` in the same order."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        workers = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(workers)
        self._room = 2 * workers
        self._waiting: deque[Future[bytes]] = deque()
        self._crc = self._size = 0
        self._before = b""
        write(_HEADER)

    def add(self, block: bytes) -> None:
        """Take a block, of which all but the last have the size BLOCK."""
        self._crc = zlib.crc32(block, self._crc)
        self._size += len(block)
        if len(self._waiting) == self._room:
            self._write(self._waiting.popleft().result())
        self._waiting.append(self._pool.submit(_deflate, block, self._before))
        self._before = block[-_WINDOW:]

    def finish(self) -> None:
        """Write all that is left."""
        while self._waiting:
            self._write(self._waiting.popleft().result())
        end = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS).flush()
        self._write(end + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))

    def close(self) -> None:
        """End the threads, also in the middle of it."""
        self._pool.shutdown(cancel_futures=True)


def _deflate(block: bytes, before: bytes) -> bytes:
    """A piece of a raw deflate stream, which ends at a byte."""
    memory, strategy = zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, memory, strategy, before)
    return deflater.compress(block) + deflater.flush(zlib.Z_SYNC_FLUSH)
