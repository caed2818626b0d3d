"""The process that runs a command of the host, when the other side goes without a word."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sysenv_ns.host_commands import request, service
from sysenv_ns.host_commands.request import HostCommand, Message
from sysenv_ns.kernel import children


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def test_who_has_gone_without_reading(ends: tuple[socket.socket, socket.socket]) -> None:
    """As one that was killed: the kernel tells of a reset, or of a broken pipe."""
    ours, theirs = ends
    with ours:
        request.tell(ours, Message("started"))
        theirs.close()
        assert request.told(ours) == (None, [])
        request.tell(ours, Message("ended", 0))
        assert request.told(ours) == (None, [])


def test_a_command_ends_with_who_asked_for_it(ends: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    ours, theirs = ends
    said = tmp_path / "pid"

    def serve() -> None:
        children.leave_session({theirs.fileno()}, "test")
        service.serve(theirs.detach(), os.environ, lambda: True)

    assert children.reap(children.start_detached(serve)) == 0
    theirs.close()
    arguments = (b"sh", b"-c", b'echo $$ > "$1.new"; mv "$1.new" "$1"; exec sleep 60', b"sh", os.fsencode(said))
    request.ask(ours, HostCommand(arguments, b"/", 0o022, {}, terminal=False))
    _await(said.exists)
    ours.close()  # without having read that it has started
    process = Path("/proc", said.read_text().strip())
    _await(lambda: not process.exists())


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
