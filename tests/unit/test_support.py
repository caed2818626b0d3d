"""How tests run programs: whatever these do, a test goes on, and its failure says what they did."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from integration import support
from integration.support import ended, finish, line, ran, rest, running

from .forks import in_a_child

# A descendant in a session of its own has the pipes; it outlives its parent, which prints a line, and itself.
_DAEMON = f"sleep {321 + os.getpid() / 10**8}"  # this process's own
_WITH_A_DAEMON = f"setsid {_DAEMON} & echo ready; echo oops >&2; exec sleep 123"


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    monkeypatch.setattr(support, "_PATIENCE", 0.2)
    pipe = subprocess.PIPE
    started = subprocess.Popen(
        ["sh", "-c", _WITH_A_DAEMON], stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    command = _DAEMON.split()
    support.wait_for(lambda: running(*command) != [] and started.pid in running("sleep", "123"))
    yield started
    (daemon,) = running(*command)
    os.kill(daemon, signal.SIGKILL)
    started.kill()
    started.communicate(timeout=60)


@pytest.mark.parametrize("wait", [finish, ended, line, rest])
def test_who_holds_the_pipes_is_told_and_holds_nothing_up(
    process: subprocess.Popen[str], wait: Callable[..., object]
) -> None:
    if wait is line:
        assert line(process) == "ready\n"
    begin = time.monotonic()
    with pytest.raises(AssertionError, match=r"within 0\.2 s|took over 0\.2 s") as failure:
        wait(process, limit=0.2)
    assert time.monotonic() - begin < 20
    said = str(failure.value)
    assert _WITH_A_DAEMON in said
    before, after = said.split("and after it was killed:")
    assert "oops" in before
    for program, then in (("sleep 123", False), (_DAEMON, True)):
        held = re.compile(rf"^  \d+ S in \S+, session \d+, holds pipe:.*: {program}$", re.MULTILINE)
        assert (held.search(before) is not None, held.search(after) is not None) == (True, then), said


def test_an_end_instead_of_a_line() -> None:
    process = subprocess.Popen(
        ["sh", "-c", "echo oops >&2; exit 3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with pytest.raises(AssertionError, match=r"printed no line\n(.*\n)*oops"):
        line(process)
    assert ended(process) == 3


def test_what_ends_in_time() -> None:
    result = ran(["sh", "-c", "cat; echo oops >&2; exit 3"], "text")
    assert (result.returncode, result.stdout, result.stderr) == (3, "text", "oops\n")


def test_a_child_never_comes_back(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise ValueError

    assert in_a_child(lambda: None) == 0
    assert in_a_child(fails) == 1
    monkeypatch.setattr("unit.forks._LIMIT", 1)
    assert in_a_child(lambda: time.sleep(60)) == -signal.SIGALRM
