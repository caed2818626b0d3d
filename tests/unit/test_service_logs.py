"""What services say is shown, not done."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sysenv_ns.within import logs, reports
from sysenv_ns.within.states import UnitState

_SAID = b"a\tb\r\n\xc3\xa4\n\n\x1b]0;title\x07\x1b[2J\nc\rd\x0be\x1cf\xc2\x85g\xc2\x9bh\xe2\x80\xaei\xe2\x80\xa8j\xff\n"
_SHOWN = ["a\tb", "ä", "", r"\x1b]0;title\x07\x1b[2J", r"c\rd\x0be\x1cf\x85g\x9bh\u202ei\u2028j" + "\ufffd"]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(logs, "DIRECTORY", str(tmp_path))
    return tmp_path / "x.log"


@pytest.mark.parametrize("count", [None, 100])
def test_lines(log: Path, count: int | None) -> None:
    assert logs.lines("x", count) == []
    log.write_bytes(b"")
    assert logs.lines("x", count) == []
    log.write_bytes(_SAID)
    assert logs.lines("x", count) == _SHOWN
    log.write_bytes(_SAID + b"no end")
    assert logs.lines("x", count) == [*_SHOWN, "no end"]


def test_what_is_followed(log: Path) -> None:
    log.touch()
    follower = logs.Follower("x")
    log.write_bytes(_SAID + b"no end")
    assert follower.new() == _SHOWN
    assert follower.new() == []


def test_how_it_calls_itself() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat\x1b[2J\nx"], executable="/bin/cat", stdin=pipe, stdout=pipe, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x"  # it has become the program
        assert reports.command_line(process.pid) == r"cat\x1b[2J\nx"
        process.stdin.close()


def test_what_it_tells_of_its_state() -> None:
    state = UnitState("x.service", said="a\x1b[2Jb")
    assert reports.properties("x.service", None, state)["StatusText"] == r"a\x1b[2Jb"
