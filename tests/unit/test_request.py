"""Requests for commands of the host: what is asked for arrives, and nothing else is taken for one."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest

from sysenv_ns.host_commands import request
from sysenv_ns.host_commands.request import HostCommand, Message

COMMAND = HostCommand((b"printf", b"\xff\n'$(id)", b""), b"/home/me", 0o27, {"TERM": "xterm"}, False)


@pytest.fixture
def sides() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Who asks, and who is asked."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def _descriptor(content: bytes) -> int:
    descriptor = os.memfd_create("request")
    os.write(descriptor, content)
    return descriptor


def test_a_request_arrives(sides: tuple[socket.socket, socket.socket]) -> None:
    request.ask(sides[0], COMMAND)
    command, streams = request.asked(sides[1])
    assert command == COMMAND
    assert len(streams) == 3
    assert not any(map(os.get_inheritable, streams))
    for stream in streams:
        os.close(stream)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"arguments": [], "directory": "/", "umask": 0, "variables": {}, "terminal": false}',
        b'{"arguments": ["a"], "directory": "/", "umask": 0, "variables": {"LD_PRELOAD": "x"}, "terminal": false}',
        b'{"arguments": "ab", "directory": "/", "umask": 0, "variables": {}, "terminal": false}',
    ],
)
def test_nothing_else_is_a_request(sides: tuple[socket.socket, socket.socket], content: bytes) -> None:
    socket.send_fds(sides[0], [b"x"], [0, 1, 2, _descriptor(content)])
    with pytest.raises(ValueError):  # noqa: PT011 of documents.py, in many words
        request.asked(sides[1])


def test_descriptors_must_be_there_and_a_pipe_is_not_waited_for(sides: tuple[socket.socket, socket.socket]) -> None:
    socket.send_fds(sides[0], [b"x"], [0, 1])
    with pytest.raises(ValueError, match="descriptors"):
        request.asked(sides[1])
    socket.send_fds(sides[0], [b"x"], [0, 1, 2, os.pipe()[0]])
    with pytest.raises(OSError, match="regular") as caught:
        request.asked(sides[1])
    assert caught.value.errno == errno.EINVAL


def test_messages(sides: tuple[socket.socket, socket.socket]) -> None:
    for message in (Message("started"), Message("ended", -15), Message("signal", 2)):
        request.tell(sides[0], message)
        assert request.told(sides[1]) == (message, [])
    sides[0].send(b'{"kind": "other", "value": 1}')
    with pytest.raises(ValueError, match="kind"):
        request.told(sides[1])
    sides[0].close()
    assert request.told(sides[1]) == (None, [])
