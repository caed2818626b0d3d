"""What the supervisor of a service does with processes: runs commands, knows the main one, and waits for what happens.

When it does which of these, service_unit.py decides.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

from sysenv_ns.within import execution, identities, outcomes, passing, processes, states, variables
from sysenv_ns.within.execution import ExecLine
from sysenv_ns.within.passing import Passed
from sysenv_ns.within.supervisor import UnitSupervisor
from sysenv_ns.within.units import Unit


class UnitFailed(Exception):
    """The unit has failed, with a result as `systemctl show -p Result` names it."""


class UnitStopped(Exception):
    """It has been told to stop."""


class CommandSupervisor(UnitSupervisor):
    """The processes of one unit."""

    def __init__(self, unit: Unit, report: int, identifier: str, notify: str, log: str) -> None:
        """See UnitSupervisor."""
        super().__init__(unit, report, identifier, notify, log)
        self._who = identities.of(unit)
        self._passed = passing.NOTHING  # the sockets that its main process gets
        self._is_ready = self._is_stopping = False
        self._told: dict[str, str] = {}  # the variables of its directories

    def _variables(self) -> dict[str, str]:
        more = {**self._told, **self._passed.variables, "INVOCATION_ID": self._state.invocation}
        if self._state.main:
            more["MAINPID"] = str(self._state.main)
        if self._events.socket:
            more["NOTIFY_SOCKET"] = self._events.socket
        return variables.of(self._unit, self._who, more)

    def _set_main(self, pid: int) -> None:
        self._log.main = pid
        self._state = replace(self._state, main=pid, main_started=processes.started_at(pid))
        states.write(self._state)

    def _main_ended(self) -> bool:
        return self._state.main in self._events.ended or not self._state.main_pid

    def _judge_main(self) -> None:
        """Raises UnitFailed if the main process has not ended well."""
        status = self._events.ended.get(self._state.main, 0)
        self._state = replace(self._state, code=outcomes.described(status))
        if not outcomes.is_clean(self._unit, status):
            self._log.note(f"main process {self._state.main}: {outcomes.described(status)}")
            raise UnitFailed(outcomes.result(status))

    def _run(self, line: ExecLine, deadline: float, privileged: bool = False, passed: Passed = passing.NOTHING) -> None:
        """One command to its end. Raises UnitFailed, UnitStopped, OrderError, OSError."""
        if privileged:
            line = replace(line, is_privileged=True)
        pid = execution.spawn(self._unit, line, self._who, self._variables(), self._log.writer, passed)
        if not self._wait(lambda: pid in self._events.ended, deadline - time.monotonic()):
            processes.send([pid], signal.SIGKILL)
            raise UnitFailed("timeout")
        status = self._events.ended.pop(pid)
        if status and not line.may_fail and not outcomes.is_clean(self._unit, status):
            self._log.note(f"{line.words[0]}: {outcomes.described(status)}")
            self._state = replace(self._state, code=outcomes.described(status))
            raise UnitFailed(outcomes.result(status))

    def _wait(self, done: Callable[[], bool], patience: float) -> bool:
        """Wait until something is so, or for so many seconds; what is said and who ends is taken in meanwhile.

        Raises UnitStopped when told to stop, unless that is what is being done.
        """
        deadline = time.monotonic() + patience
        while True:
            self._events.reap()
            if self._events.told_to_stop and not self._is_stopping:
                raise UnitStopped
            if done():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # Files and processes that are no children of ours are looked for a few times a second while starting.
            brief = self._state.active != "active" or self._is_stopping
            self._heed(self._events.next(min(left, 0.05 if brief else 60.0)))

    def _heed(self, messages: list[tuple[str, str]]) -> None:
        """What the service says by sd_notify(3)."""
        for key, value in messages:
            if (key, value) == ("READY", "1"):
                self._is_ready = True
            elif key == "MAINPID" and value.isdecimal() and int(value) in states.descendants(os.getpid()):
                self._set_main(int(value))
            elif key == "STATUS":
                self._state = replace(self._state, said=value[:200])
                states.write(self._state)
