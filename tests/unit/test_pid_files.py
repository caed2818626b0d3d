"""What a daemon has put in place of the file with its number does not stop who looks after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.within import processes


@pytest.mark.parametrize(("text", "number"), [(b"12\n", 12), (b"", 0), (b"x", 0), (b"\xff", 0), (b"-1 ", -1)])
def test_numbers(tmp_path: Path, text: bytes, number: int) -> None:
    (tmp_path / "file").write_bytes(text)
    assert processes.number_in(str(tmp_path / "file")) == number


def test_what_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert processes.number_in(str(pipe)) == 0
    writer = os.open(pipe, os.O_RDWR)  # who says nothing
    assert processes.number_in(str(pipe)) == 0
    os.close(writer)
    assert processes.number_in(str(tmp_path)) == processes.number_in("/dev/zero") == 0
