"""The supervisor of a socket unit: listens, and has the service started when somebody comes (systemd.socket(5)).

A service that runs has been handed what is listened on; until it ends nobody looks there. With Accept=yes each
connection gets an instance of the service.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

from sysenv_ns.within import addresses, detached, outcomes, passing, states, units
from sysenv_ns.within.supervisor import UnitSupervisor
from sysenv_ns.within.units import OrderError, Unit

_TOO_MANY = 200  # connections within 2 s, TriggerLimitBurst= and TriggerLimitIntervalSec=
_MOST_FAILURES = 5  # starts that fail one after the other, however slowly: who came would have them tried for ever
_BREATH = 1.0  # seconds before it is looked again what could not be accepted


def launch(unit: Unit) -> None:
    """Listen, and return when that is so. Raises OrderError when it cannot be."""
    detached.run(unit.name, lambda report: SocketSupervisor(unit, report).run())


def require_supported(unit: Unit) -> None:
    """Raises OrderError for what cannot be done here."""
    addresses.of(unit)
    for key in ("ExecStartPre", "ExecStartPost", "ExecStopPre", "ExecStopPost"):
        if unit.raw("Socket", key):
            raise OrderError(f"{unit.name}: {key}= of a socket is not supported in an environment")
    name = passing.target(unit)
    if unit.flag("Socket", "Accept") and any(address.kind in ("Datagram", "FIFO") for address in addresses.of(unit)):
        raise OrderError(f"{unit.name}: Accept=yes needs an address that accepts connections")
    if units.load(name) is None:
        raise OrderError(f"Unit {name} not found, which {unit.name} is for.", status=5)


def require_free(unit: Unit) -> None:
    """Raises OrderError while the service runs that this is for: it could not be handed what is listened on."""
    name = passing.target(unit)
    if not unit.flag("Socket", "Accept") and states.read(name).runs:
        raise OrderError(f"{name} is running, and {unit.name} has to be started before it.", f"systemctl stop {name}")


class SocketSupervisor(UnitSupervisor):
    """The life of one socket unit, from the first moment that it listens to the last."""

    def __init__(self, unit: Unit, report: int) -> None:
        super().__init__(unit, report, "systemctl")
        self._target, self._accepts = passing.target(unit), unit.flag("Socket", "Accept")
        self._listeners: list[int] = []
        self._order_given = 0  # the process that starts the service
        self._service: int | None = None  # a pidfd_open(2) of its supervisor
        self._triggers: list[float] = []
        self._failures = 0  # of starts, one after the other
        self._count = 0

    def run(self) -> None:
        """Returns when it is told to stop, or something has failed."""
        unit, found = self._unit, addresses.of(self._unit)
        result = "success"
        try:
            self._listeners = [addresses.opened(unit, address) for address in found]
            for descriptor in self._listeners if self._accepts else ():
                os.set_blocking(descriptor, False)
            addresses.link(unit, found)
            self._set("active", "listening")
            with passing.listen(unit.name) as asked:
                self._tell(detached.DONE)
                while not self._events.told_to_stop:
                    self._look(asked)
        except OrderError as error:
            for said in filter(None, (error.message, error.hint)):
                self._log.note(said)
            self._tell(detached.words(error))
            result = "resources"
        except _TooOften as error:
            self._log.note(f"{self._target} was started too often: {error}")
            result = str(error)
        for descriptor in self._listeners:
            os.close(descriptor)
        addresses.remove(unit, found)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(passing.path(unit.name))
        has_failed = result != "success"
        self._set("failed" if has_failed else "inactive", "failed" if has_failed else "dead", result=result)
        self._log.finish()

    def _look(self, asked: socket.socket) -> None:
        """Wait until something happens, and do what is due. Raises _TooOften, OSError."""
        is_idle = self._service is None and not self._order_given
        sources = [asked.fileno(), *(self._listeners if is_idle else [])]
        if self._service is not None:
            sources.append(self._service)
        ready = self._events.watch(sources, 60.0)
        self._events.reap()
        if asked.fileno() in ready:
            self._answer(asked)
        if self._service in ready:
            self._forget_service()
        if self._order_given in self._events.ended:
            self._failures = self._failures + 1 if self._events.ended[self._order_given] else 0
            self._order_given = 0
        self._events.ended.clear()
        for descriptor in ready:
            if descriptor in self._listeners and self._service is None:
                self._trigger(descriptor)

    def _answer(self, asked: socket.socket) -> None:
        name = self._unit.text("Socket", "FileDescriptorName") or self._unit.name
        # Who asked may be gone.
        with contextlib.suppress(OSError):
            service = os.pidfd_open(passing.answer(asked, self._listeners, [name] * len(self._listeners)))
            self._forget_service()
            self._service = service
            self._set("active", "running")

    def _forget_service(self) -> None:
        if self._service is not None:
            os.close(self._service)
            self._service = None
            self._set("active", "listening")

    def _trigger(self, listener: int) -> None:
        """Have the service started. Raises _TooOften."""
        if self._accepts:
            self._accept(listener)
            return
        if self._order_given:
            return
        service = units.load(self._target)
        is_too_often = service is not None and outcomes.is_limit_reached(service, self._triggers)
        if is_too_often or self._failures == _MOST_FAILURES:
            raise _TooOften("service-start-limit-hit")
        self._triggers.append(time.monotonic())
        self._order_given = self._order("start", self._target)

    def _accept(self, listener: int) -> None:
        now = time.monotonic()
        self._triggers = [moment for moment in self._triggers if now - moment < 2.0]
        if len(self._triggers) >= _TOO_MANY:
            raise _TooOften("trigger-limit-hit")
        self._triggers.append(now)
        with socket.socket(fileno=os.dup(listener)) as listening:
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, ConnectionError):  # who came has gone again
                return
            except OSError as error:  # too many files are open
                self._log.note(f"a connection cannot be accepted: {error.strerror}")
                time.sleep(_BREATH)
                return
        with connection:
            try:
                instance = self._instance(connection)
            except OSError:  # who came has broken it off: it has no other end any more
                return
            if self._connected() >= int(self._unit.text("Socket", "MaxConnections", "64")):
                self._log.note("too many connections: refusing one")
                return
            self._order("start-accepted", instance, connection=connection.fileno())
            self._count += 1

    def _connected(self) -> int:
        prefix = f"{self._target.partition('@')[0]}@"
        return sum(state.name.startswith(prefix) and state.is_supervised for state in states.known())

    def _instance(self, connection: socket.socket) -> str:
        """The name of the instance for a connection, as systemd has it: a number and who is at its ends."""
        if connection.family == socket.AF_UNIX:
            ends = f"{self._count}-{os.getpid()}"
        else:
            here, there = connection.getsockname(), connection.getpeername()
            ends = f"{self._count}-{here[0]}:{here[1]}-{there[0]}:{there[1]}"
        return self._target.replace("@.", f"@{ends.replace('%', '_')}.")


class _TooOften(Exception):
    """Somebody has the service started again and again; the argument is the result."""
