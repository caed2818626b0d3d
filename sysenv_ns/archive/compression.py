"""Zstandard, by the standard library or its backport; loaded by those who need it only."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import BinaryIO, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Error = zstd.ZstdError
_LEVEL = 3  # zstd's own: beyond it, most time goes into a few per cent
_THREADS = 8  # more gain little, and each takes memory


def writer(stream: BinaryIO) -> BinaryIO:
    """Compresses what is written, by threads that end when it is closed: no process may be forked before."""
    parameter = zstd.CompressionParameter
    threads = min(len(os.sched_getaffinity(0)), _THREADS)
    options: Mapping[int, int] = {
        parameter.compression_level: _LEVEL,
        parameter.checksum_flag: 1,
        parameter.nb_workers: threads,
    }
    return cast(BinaryIO, zstd.ZstdFile(stream, "wb", options=options))


def reader(stream: BinaryIO) -> BinaryIO:
    """What was compressed. Reading raises EOFError where it ends too early, Error where it is damaged."""
    return cast(BinaryIO, zstd.ZstdFile(stream, "rb"))
