"""Writes what comes in small pieces in large ones, with a checksum.

No thread does that beside the one that reads files: they would wait for each other more than for the processor.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

_PIECE = 1 << 20  # bytes
_LARGE = 1 << 17  # bytes that are not copied to those before them


class Output:
    """Writes to a stream; all is written after `flush`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._size = 0  # of what is gathered

    def write(self, data: bytes) -> None:
        """Write bytes, some time later. Raises OSError, also that of former ones."""
        if len(data) >= _LARGE:
            self._write_gathered()
            self._write(data)
            return
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= _PIECE:
            self._write_gathered()

    @property
    def checksum(self) -> str:
        """The SHA-256 of all so far. Raises OSError."""
        self._write_gathered()
        return self._digest.hexdigest()

    def flush(self) -> None:
        """Write all. Raises OSError."""
        self._write_gathered()
        self._stream.flush()

    def _write_gathered(self) -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._size = 0
        self._write(data)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._stream.write(data)
