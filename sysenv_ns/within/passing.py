"""How a service gets what its socket units listen on: it asks their supervisors; opens nothing itself."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from sysenv_ns.within import states, units
from sysenv_ns.within.units import OrderError, Unit

_MOST = 253  # descriptors in one message, SCM_MAX_FD of unix(7)
_NAMES = 64 << 10  # bytes
_PATIENCE = 10.0  # seconds


@dataclass(frozen=True)
class Passed:
    """Descriptors for a service, each with a name; and what tells of who is at the other end of a connection."""

    descriptors: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


NOTHING = Passed()


def target(unit: Unit) -> str:
    """The service that a socket unit is for; the template of its instances where each connection gets one."""
    prefix, at, instance = unit.name.rpartition(".")[0].partition("@")
    if unit.flag("Socket", "Accept"):
        return f"{prefix}@.service"
    return unit.text("Socket", "Service") or f"{prefix}{at}{instance}.service"


def template(name: str) -> str:
    """What an instance is one of."""
    return f"{name.partition('@')[0]}@.{name.rpartition('.')[2]}"


def received(unit: Unit) -> Passed:
    """What the running socket units of a service listen on. Raises OrderError."""
    descriptors: list[int] = []
    names: list[str] = []
    for name in _sockets(unit):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
                asking.settimeout(_PATIENCE)
                asking.connect(path(name))
                told, found, _, _ = socket.recv_fds(asking, _NAMES, _MOST)
        except OSError as error:
            raise OrderError(f"{unit.name} does not get the sockets of {name}: {error}") from error
        for number in found:
            os.set_inheritable(number, False)
        descriptors += found
        names += told.decode().split(":")
    return Passed(tuple(descriptors), tuple(names))


def _sockets(unit: Unit) -> list[str]:
    """The running socket units that are for a service, or that it names."""
    named = [units.full_name(name) for name in unit.words("Service", "Sockets")]
    found = []
    for state in states.known():
        if state.name.endswith(".socket") and state.is_supervised:
            with contextlib.suppress(OrderError):  # its file may be gone
                loaded = units.load(state.name)
                if state.name in named or (loaded is not None and target(loaded) == unit.name):
                    found.append(state.name)
    return found


def accepted(descriptor: int) -> Passed:
    """A connection for the instance that serves it. Raises OSError."""
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        peer = connection.getpeername() if connection.family in (socket.AF_INET, socket.AF_INET6) else None
    told = {"REMOTE_ADDR": str(peer[0]), "REMOTE_PORT": str(peer[1])} if peer else {}
    return Passed((descriptor,), ("connection",), told)


def path(name: str) -> str:
    """Where the supervisor of a socket unit is asked."""
    return f"{states.DIRECTORY}/{name}.ask"


def listen(name: str) -> socket.socket:
    """Be asked on behalf of a socket unit, by root alone. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path(name))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path(name))
    os.chmod(path(name), 0o600)
    listener.listen()
    listener.setblocking(False)
    return listener


def answer(listener: socket.socket, descriptors: list[int], names: list[str]) -> int:
    """Hand descriptors to who asks; returns the number of that process. Raises OSError."""
    asking, _ = listener.accept()
    with asking:
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        socket.send_fds(asking, [":".join(names).encode()], descriptors)
    return int(struct.unpack("3i", credentials)[0])
