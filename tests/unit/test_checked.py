"""What is gathered before it is written: all of it, in its order, with its checksum, or the error."""

from __future__ import annotations

import errno
import hashlib
import io
import random

import pytest

from sysenv_ns.archive.checked import Output


def test_all_is_written_in_its_order() -> None:
    chance = random.Random(1)
    pieces = [chance.randbytes(chance.choice((0, 1, 512, 5000, 1 << 17, 3 << 20))) for _ in range(300)]
    stream = io.BytesIO()
    output = Output(stream)
    for piece in pieces[:200]:
        output.write(piece)
    assert output.checksum == hashlib.sha256(b"".join(pieces[:200])).hexdigest()
    for piece in pieces[200:]:
        output.write(piece)
    output.flush()
    assert stream.getvalue() == b"".join(pieces)


class _Full(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("count", [1, 100])
def test_an_error_is_raised_at_the_end_at_the_latest(count: int) -> None:
    output = Output(io.BufferedWriter(_Full()))

    def write() -> None:
        for _ in range(count):
            output.write(bytes(1 << 20))
        output.flush()

    with pytest.raises(OSError, match="full"):
        write()
