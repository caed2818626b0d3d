"""Writes what comes in small pieces in large ones, with a checksum, in a thread beside that of who makes them.

The checksum, the write and the wait for who reads take no more than one processor then, and leave the other to Python.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

_PIECE = 1 << 20  # bytes
_LARGE = 1 << 17  # bytes that are not copied to those before them
_WAITING = 4  # pieces that are made and not written yet: what it may hold in memory


class Output:
    """Writes to a stream. No process may be forked while it does, and it ends with `flush`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []
        self._gathered: list[bytes] = []
        self._size = 0  # of what is gathered

    def write(self, data: bytes) -> None:
        """Write bytes, some time later. Raises OSError, also that of former ones."""
        if len(data) >= _LARGE:
            self._hand_over(data)
            return
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= _PIECE:
            self._hand_over()

    @property
    def checksum(self) -> str:
        """The SHA-256 of all so far. Raises OSError."""
        self._finish()
        return self._digest.hexdigest()

    def flush(self) -> None:
        """Write all, and end. Raises OSError."""
        self._finish()
        self._stream.flush()
        self._thread.shutdown()

    def _finish(self) -> None:
        self._hand_over()
        while self._waiting:
            self._waiting.pop(0).result()

    def _hand_over(self, last: bytes = b"") -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._size = 0
        while len(self._waiting) >= _WAITING or (self._waiting and self._waiting[0].done()):
            self._waiting.pop(0).result()
        self._waiting.append(self._thread.submit(self._out, data, last))

    def _out(self, *pieces: bytes) -> None:
        for data in filter(None, pieces):
            self._digest.update(data)
            self._stream.write(data)
