"""What is said over the socket between who asks for a command of the host, inside, and the process that runs it.

A request is a file in memory, whose descriptor comes in one message with the three standard streams. Answers and orders
are messages of one JSON object each; with the first answer comes the command's terminal, if it has one.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sysenv_ns import decoding, documents
from sysenv_ns.files import reader

# Of the terminal that a command is shown on; all other variables are those that the session was started with.
VARIABLES = ("TERM", "COLORTERM")
_STREAMS = (0, 1, 2)
_LIMIT = 8 << 20  # bytes; what execve(2) takes is less
_MESSAGE = 4096  # bytes
_GONE = (BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True)
class HostCommand:
    """A command of the host, where and how it is to run; with a terminal of its own or the streams as they are."""

    arguments: tuple[bytes, ...]
    directory: bytes
    umask: int
    variables: dict[str, str]
    terminal: bool


@dataclass(frozen=True)
class Message:
    """What has happened, or an order. `value` is

    of started 1 where the directory is not there, of failed an errno, of stopped and signal the number of a signal, of
    ended what os.waitstatus_to_exitcode gives, of others 0.
    """

    kind: Literal["refused", "started", "failed", "stopped", "ended", "signal", "continue"]
    value: int = 0


def ask(connection: socket.socket, command: HostCommand) -> None:
    """Ask for a command, with the standard streams of this process. Raises OSError."""
    content = os.memfd_create("request")
    with open(content, "wb", closefd=False) as stream:
        stream.write(_encoded(command))
    socket.send_fds(connection, [b"request"], [*_STREAMS, content])
    os.close(content)


def asked(connection: socket.socket) -> tuple[HostCommand, list[int]]:
    """The command that is asked for, and its standard streams. Raises OSError; ValueError for what is no request."""
    _, descriptors = _received(connection, len(_STREAMS) + 1)
    if len(descriptors) != len(_STREAMS) + 1:
        raise ValueError("it has not its descriptors")
    *streams, content = descriptors
    reader.regular(content, "request")
    os.lseek(content, 0, os.SEEK_SET)
    command = decoding.from_data(HostCommand, documents.parse_json(b"".join(reader.content(content, _LIMIT))))
    os.close(content)
    if not command.arguments or not set(command.variables) <= {*VARIABLES}:
        raise ValueError("it is no command")
    return command, streams


def tell(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message. What is sent to who has gone is lost, which `told` says. Raises OSError."""
    with contextlib.suppress(*_GONE):
        socket.send_fds(connection, [_encoded(message)], descriptors)


def told(connection: socket.socket) -> tuple[Message | None, list[int]]:
    """The next message and its descriptors; None when there will be no more. Raises OSError, ValueError."""
    try:
        text, descriptors = _received(connection, 1)
    except _GONE:  # it was killed before it had read all
        return None, []
    return decoding.from_data(Message, documents.parse_json(text)) if text else None, descriptors


def _received(connection: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """A message with its descriptors, none to be inherited: socket.recv_fds makes nothing of its flags."""
    descriptors = array.array("i")
    room = socket.CMSG_SPACE(most * descriptors.itemsize)
    text, ancillary, _, _ = connection.recvmsg(_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return text, list(descriptors)


def _encoded(value: object) -> bytes:
    return json.dumps(value, default=documents.as_data).encode()
