"""What the supervisors of all running units do: keep a state and a log, and tell who waits that it has started.

Those of services, timers and sockets are in modules of their own.
"""

from __future__ import annotations

import os
import signal
import sys
import uuid
from dataclasses import replace

from sysenv_ns.within import logs, processes, states
from sysenv_ns.within.events import Events
from sysenv_ns.within.states import UnitState
from sysenv_ns.within.units import Unit


class UnitSupervisor:
    """The life of one unit."""

    def __init__(self, unit: Unit, report: int, identifier: str, notify: str = "", log: str = "") -> None:
        """`report`: where to say that it has started, or why not; `notify`: a path for the socket of sd_notify(3);
        `log`: the unit whose log it writes, if that is another one.
        """
        self._unit, self._report = unit, report
        self._log = logs.Log(log or unit.name, identifier)
        own = os.getpid()
        self._state = UnitState(
            unit.name,
            supervisor=own,
            supervisor_started=processes.started_at(own),
            invocation=uuid.uuid4().hex,
            started=states.now(),
        )
        self._events = Events(self._log, notify)

    def _tell(self, said: str) -> None:
        """To who waits for the start."""
        if self._report >= 0:
            os.write(self._report, said.encode())
            os.close(self._report)
            self._report = -1

    def _set(self, active: str, sub: str, **more: object) -> None:
        since = self._state.since if self._state.active == active and self._state.since else states.now()
        self._state = replace(self._state, active=active, sub=sub, since=since, **more)  # type: ignore[arg-type]
        states.write(self._state)

    def _order(self, *words: str, connection: int | None = None) -> int:
        """Give an order for another unit, in a process of its own, whose number is returned; its words are logged.

        `connection` is number 3 there.
        """
        command = [sys.executable, "-I", "-S", "-B", os.path.dirname(__file__), "systemctl", *words]
        actions = [(os.POSIX_SPAWN_DUP2, self._log.writer, number) for number in (1, 2)]
        if connection is not None:
            actions.append((os.POSIX_SPAWN_DUP2, connection, 3))
        return os.posix_spawn(
            command[0], command, os.environ, file_actions=actions, setsigdef=[signal.SIGHUP, signal.SIGPIPE]
        )
