"""A stream through memory that two processes share: all of it, in its order, or the error; nobody waits for ever."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import ring
from sysenv_ns.kernel.ring import RingWriter

_SIZES = (0, 1, 512, 5000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20)


def _checksum(blocks: Iterator[memoryview]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def test_all_arrives_in_its_order(tmp_path: Path) -> None:
    """Also more than the memory holds, and files that end, or not, where one of its blocks does."""
    chance = random.Random(1)
    pieces = [chance.randbytes(chance.choice(_SIZES)) for _ in range(60)]
    (tmp_path / "file").write_bytes(b"".join(pieces))

    def write(output: RingWriter) -> int:
        descriptor = os.open(tmp_path / "file", os.O_RDONLY)
        offset = 0
        for number, piece in enumerate(pieces):
            left = len(piece)
            if number % 3 == 2:
                output.write(piece)
                offset, left = offset + left, 0
            while left:
                read = output.fill(descriptor, offset, left)
                offset, left = offset + read, left - read
            if number % 7 == 6:
                output.flush()
        assert output.fill(descriptor, offset, 100) == 0
        return offset

    size = sum(map(len, pieces))
    assert ring.drained(write, int, "test-ring", _checksum) == (size, hashlib.sha256(b"".join(pieces)).hexdigest())


def test_nothing_is_written() -> None:
    assert ring.drained(lambda output: 7, int, "test-ring", lambda blocks: [*map(len, blocks)]) == (7, [])


def test_a_child_that_fails_says_why() -> None:
    def write(output: RingWriter) -> None:
        output.write(bytes(20 << 20))
        raise SysenvError("it is enough")

    with pytest.raises(SysenvError, match="it is enough"):
        ring.drained(write, type(None), "test-ring", _checksum)


@pytest.mark.parametrize("after", [0, 1, 12])
def test_what_fails_here_is_told_and_ends_the_child(after: int) -> None:
    def fail(blocks: Iterator[memoryview]) -> None:
        for _ in range(after):
            next(blocks)
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        ring.drained(lambda output: output.write(bytes(20 << 20)), type(None), "test-ring", fail)
    tasks = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert "test-ring\n" not in {Path(f"/proc/{pid}/comm").read_text() for pid in tasks}


def test_no_descriptor_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    ring.drained(lambda output: output.write(b"x"), type(None), "test-ring", _checksum)
    assert os.listdir("/proc/self/fd") == before
