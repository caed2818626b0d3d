"""Zstandard, by the standard library, its backport, or the package zstandard of distributions; loaded when needed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

zstandard: Any = None
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    try:
        from backports import zstd
    except ImportError:
        import zstandard

Error: type[Exception] = zstandard.ZstdError if zstandard else zstd.ZstdError
_LEVEL = 3  # zstd's own: beyond it, most time goes into a few per cent
# Of what is compressed with a dictionary: level, matches to look for, and a length that suffices. The first takes a
# second for each 2 MB, so it is for little.
_LITTLE = 8 << 20  # bytes
_THOROUGH, _QUICK = (19, 9, 999), (12, 6, 32)
_THREADS = 8  # more gain little, and each takes memory
_WINDOW_LOG = 25  # 32 MiB, which a reader has to keep: an archive may have been compressed anew, but not by all levels
LEAST = 8  # bytes of a dictionary
_PIECE = 4096  # compressed bytes: a block of 4 can become 128 KiB (RFC 8878), so that these become 128 MiB at most


def writer(stream: BinaryIO) -> BinaryIO:
    """Compresses what is written, in threads that end when it is closed: no process may be forked before that."""
    threads = min(len(os.sched_getaffinity(0)), _THREADS)
    if zstandard:
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True, threads=threads)
        return cast(BinaryIO, compressor.stream_writer(stream, closefd=False))
    parameter = zstd.CompressionParameter
    options: Mapping[int, int] = {
        parameter.compression_level: _LEVEL,
        parameter.checksum_flag: 1,
        parameter.nb_workers: threads,
    }
    return cast(BinaryIO, zstd.ZstdFile(stream, "wb", options=options))


def compressed(data: bytes, dictionary: bytes = b"") -> bytes:
    """Some MB as one frame. It refers to what is in the dictionary too, which is bytes of any content."""
    level, depth, length = _THOROUGH if len(data) + len(dictionary) <= _LITTLE else _QUICK
    if zstandard:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, window_log=_WINDOW_LOG, search_log=depth, target_length=length, write_checksum=True
        )
        compressor = zstandard.ZstdCompressor(dict_data=_dictionary(dictionary), compression_params=parameters)
        return bytes(compressor.compress(data))
    parameter = zstd.CompressionParameter
    options: Mapping[int, int] = {
        parameter.compression_level: level,
        parameter.window_log: _WINDOW_LOG,
        parameter.search_log: depth,
        parameter.target_length: length,
        parameter.checksum_flag: 1,
    }
    return zstd.compress(data, options=options, zstd_dict=_dictionary(dictionary))


def reader(stream: BinaryIO, dictionary: bytes = b"") -> BinaryIO:
    """Decompresses. Reading raises EOFError if the data is truncated, Error if it or the dictionary is damaged."""
    if zstandard:
        return cast(BinaryIO, io.BufferedReader(_Frames(stream, dictionary)))
    options: Mapping[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    return cast(BinaryIO, zstd.ZstdFile(stream, "rb", options=options, zstd_dict=_dictionary(dictionary)))


def _dictionary(content: bytes) -> Any:
    """A dictionary of any content, not one in zstd's own form, which such content could look like."""
    if len(content) < LEAST:
        return None
    if zstandard:
        return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstd.ZstdDict(content, is_raw=True)


class _Frames(io.RawIOBase):
    """Reads frames one after the other; zstandard's own reader accepts a truncated one."""

    def __init__(self, stream: BinaryIO, dictionary: bytes) -> None:
        self._stream = stream
        self._decompressor = zstandard.ZstdDecompressor(
            dict_data=_dictionary(dictionary), max_window_size=1 << _WINDOW_LOG
        )
        self._frame: Any = self._decompressor.decompressobj()  # the one that is being read
        self._left = b""  # compressed bytes after the last frame
        self._found = memoryview(b"")  # bytes that nobody has read yet

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer with available data; 0 at the end."""
        while not self._found:
            data = self._left or self._stream.read(_PIECE)
            if not data:
                if self._frame is not None:
                    raise EOFError("compressed data ended before the end of a frame")
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            self._found = memoryview(self._frame.decompress(data))
            self._left = self._frame.unused_data if self._frame.eof else b""
            self._frame = None if self._frame.eof else self._frame
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._found))
        target[:size] = self._found[:size]
        self._found = self._found[size:]
        return size
