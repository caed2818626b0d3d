"""The supervisor of a service: starts, watches, restarts and ends it; knows no other unit.

It is the subreaper of what it starts (prctl(2)), so what a daemon leaves behind becomes its child: it sees how the main
process ends, and which processes belong to the unit, as systemd does by a control group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import time
from dataclasses import replace

from sysenv_ns.within import advice, detached, directories, execution, outcomes, passing, processes, states
from sysenv_ns.within.command_supervisor import CommandSupervisor, UnitFailed, UnitStopped
from sysenv_ns.within.execution import ExecLine
from sysenv_ns.within.units import OrderError, Unit

_PR_SET_CHILD_SUBREAPER = 36
_FOREVER = float("inf")
_FIRST_LOOK = 0.15  # seconds: who makes a mistake in a configuration is told at once, where systemd says nothing
_KILL_PATIENCE = 5.0  # seconds that the kernel may take to end killed processes
_FORK_PATIENCE = 5.0  # seconds between the end of a daemon's first process and its file with the number of the last
TYPES = ("simple", "exec", "forking", "oneshot", "notify", "notify-reload", "idle")


def launch(unit: Unit, connection: int | None = None) -> None:
    """Start a service and return when it has started. Raises OrderError when it has not.

    `connection`: the descriptor of what a socket unit has accepted, for an instance that serves it.
    """
    kept = () if connection is None else (connection,)
    detached.run(unit.name, lambda report: ServiceSupervisor(unit, report, connection).run(), kept)


def end(unit: Unit) -> None:
    """Stop a service that has no process any more, and return when it has ended. Raises OrderError."""
    detached.run(unit.name, lambda report: ServiceSupervisor(unit, report).finish())


class ServiceSupervisor(CommandSupervisor):
    """The life of one service, from its start to the end of its last process."""

    def __init__(self, unit: Unit, report: int, connection: int | None = None) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._type = unit.text("Service", "Type", "simple")
        first = execution.lines(unit, "ExecStart")
        identifier = unit.text("Service", "SyslogIdentifier") or (os.path.basename(first[0].words[0]) if first else "")
        notify = f"{states.DIRECTORY}/{unit.name}.notify" if self._type.startswith("notify") else ""
        log = "" if connection is None else passing.template(unit.name)
        super().__init__(unit, report, identifier or unit.name, notify, log)
        self._is_accepted = connection is not None
        self._passed = passing.received(unit) if connection is None else passing.accepted(connection)
        self._said = ""  # why it did not start, where that is known
        self._starts: list[float] = []

    def run(self) -> None:
        """Returns when the unit has ended for good; nothing but a state file and its log is left."""
        while True:
            result = self._once()
            if self._events.told_to_stop or not self._restarts(result):
                break
            self._set("activating", "auto-restart", result=result, restarts=self._state.restarts + 1)
            self._tell(f"Job for {self._unit.name} failed ({result}); restarting it.")
            with contextlib.suppress(UnitStopped):
                self._wait(lambda: False, self._unit.seconds("Service", "RestartSec", 0.1))
        self._end(result)

    def finish(self) -> None:
        """Stop a unit that is active without a process."""
        own = self._state
        self._state = replace(
            states.read(self._unit.name), supervisor=own.supervisor, supervisor_started=own.supervisor_started
        )
        self._told = directories.make(self._unit, self._who)
        result = self._stop("success")
        self._tell(detached.DONE)
        self._end(result)

    def _once(self) -> str:
        """One life; returns the result."""
        result = "success"
        self._starts.append(time.monotonic())
        self._is_stopping = False
        try:
            self._start()
            self._tell(detached.DONE)
            if self._watch():
                return result
        except UnitStopped:
            pass
        except UnitFailed as error:
            result = str(error)
        except (OrderError, OSError) as error:
            self._log.note(str(error))
            self._said = str(error)
            result = "resources"
        return self._stop(result)

    # Starting

    def _start(self) -> None:
        """Raises UnitFailed, UnitStopped, OrderError, OSError."""
        unit, patience = self._unit, self._unit.seconds("Service", "TimeoutStartSec", self._timeout())
        if self._type == "oneshot":
            patience = unit.seconds("Service", "TimeoutStartSec", _FOREVER)
        deadline = time.monotonic() + (patience or _FOREVER)
        self._state = replace(self._state, main=0, main_started=0, said="", code="")
        self._is_ready = False
        if unit.text("Service", "StandardInput") == "socket" and len(self._passed.descriptors) != 1:
            raise OrderError(f"{unit.name}: StandardInput=socket needs one socket", "start its socket unit instead")
        self._told = directories.make(unit, self._who)
        self._check_condition(deadline)
        self._set("activating", "start-pre")
        for line in execution.lines(unit, "ExecStartPre"):
            self._run(line, deadline, privileged=unit.flag("Service", "PermissionsStartOnly"))
        self._set("activating", "start")
        commands = execution.lines(unit, "ExecStart")
        if self._type in ("oneshot", "forking"):
            for line in commands:
                self._run(line, deadline, passed=self._passed)
            if self._type == "forking":
                self._find_main(deadline)
        else:
            self._begin(commands, deadline)
        for line in execution.lines(unit, "ExecStartPost"):
            self._run(line, deadline, privileged=unit.flag("Service", "PermissionsStartOnly"))
        self._set("active", "running" if states.descendants(os.getpid()) else "exited")

    def _check_condition(self, deadline: float) -> None:
        """ExecCondition=: raises UnitFailed where the unit is not to be started."""
        self._set("activating", "condition")
        for line in execution.lines(self._unit, "ExecCondition"):
            try:
                self._run(line, deadline)
            except UnitFailed as error:
                if str(error) != "exit-code" or self._state.code == "status 255":
                    raise
                self._said = f"ExecCondition={line.words[0]} does not hold"
                raise UnitFailed(outcomes.CONDITION) from None

    def _timeout(self) -> float:
        return self._unit.seconds("Service", "TimeoutSec", 90.0) or _FOREVER

    def _begin(self, commands: list[ExecLine], deadline: float) -> None:
        """The main process of a service that stays in the foreground."""
        if len(commands) != 1:
            raise OrderError(f"{self._unit.name}: it must have one ExecStart=")
        given = self._variables()
        pid = execution.spawn(self._unit, commands[0], self._who, given, self._log.writer, self._passed)
        self._set_main(pid)
        if not self._events.socket:  # what cannot be executed has been noticed: as with Type=exec
            if self._wait(self._main_ended, _FIRST_LOOK):
                self._judge_main()
            return
        ready = self._wait(lambda: self._is_ready or self._main_ended(), deadline - time.monotonic())
        if not ready:
            raise UnitFailed("timeout")
        if not self._is_ready:
            self._judge_main()
            raise UnitFailed("protocol")

    def _find_main(self, deadline: float) -> None:
        """The process that a daemon leaves behind."""
        file = self._unit.text("Service", "PIDFile")
        if file:
            file = file if file.startswith("/") else f"/run/{file}"
            patience = min(deadline - time.monotonic(), _FORK_PATIENCE)
            self._wait(
                lambda: processes.number_in(file) in (below := states.descendants(os.getpid())) or not below, patience
            )
            if processes.number_in(file) not in states.descendants(os.getpid()):
                self._log.note(f"there is no process of this unit in {file}")
                raise UnitFailed("protocol")
            self._set_main(processes.number_in(file))
            return
        left = states.descendants(os.getpid())
        if len(left) == 1 and self._unit.flag("Service", "GuessMainPID", True):
            self._set_main(left[0])

    # Running

    def _watch(self) -> bool:
        """Until the service ends by itself; whether it counts as active nevertheless.

        Raises UnitFailed, UnitStopped.
        """
        longest = self._unit.seconds("Service", "RuntimeMaxSec", _FOREVER)
        ended = self._main_ended if self._state.main else lambda: not states.descendants(os.getpid())
        if not self._wait(ended, longest if self._type != "oneshot" else _FOREVER):
            self._log.note("it has reached its longest runtime (RuntimeMaxSec=)")
            raise UnitFailed("timeout")
        if self._state.main:
            self._judge_main()
        if not self._unit.flag("Service", "RemainAfterExit"):
            return False
        self._set("active", "exited", supervisor=0, supervisor_started=0)
        return True

    def _restarts(self, result: str) -> bool:
        if self._state.active == "active" or not outcomes.restarts(self._unit, result, self._state.code):
            return False
        if outcomes.is_limit_reached(self._unit, self._starts):
            self._log.note("start request repeated too quickly")
            return False
        return True

    # Ending

    def _stop(self, result: str) -> str:
        """ExecStop=, then signals to what is left, then ExecStopPost=; returns the result."""
        unit, was_started = self._unit, self._state.active == "active"
        self._is_stopping = True
        patience = unit.seconds("Service", "TimeoutStopSec", self._timeout()) or _FOREVER
        self._set("deactivating", "stop")
        deadline = time.monotonic() + patience
        if was_started:
            result = self._run_all("ExecStop", deadline, result)
        result = self._kill(deadline, patience, result)
        self._set("deactivating", "stop-post")
        result = self._run_all("ExecStopPost", time.monotonic() + patience, result)
        for path in directories.temporary(unit):
            shutil.rmtree(path, ignore_errors=True)
        return result

    def _run_all(self, key: str, deadline: float, result: str) -> str:
        try:
            for line in execution.lines(self._unit, key):
                self._run(line, deadline)
        except UnitFailed as error:
            return result if result != "success" else str(error)
        except (OrderError, OSError) as error:
            self._log.note(f"{key}: {error}")
            return result if result != "success" else "resources"
        return result

    def _kill(self, deadline: float, patience: float, result: str) -> str:
        """KillMode= of systemd.kill(5)."""
        mode = self._unit.text("Service", "KillMode", "control-group")
        if mode == "none":
            return result
        main = self._state.main_pid

        def asked() -> list[int]:
            """Those that are asked to end, and still live."""
            if mode == "process" or (mode == "mixed" and main):
                return [main] if self._state.main_pid else []
            return states.descendants(os.getpid())

        processes.send(asked(), outcomes.signal_of(self._unit.text("Service", "KillSignal", "SIGTERM")), signal.SIGCONT)
        if self._unit.flag("Service", "SendSIGHUP"):
            processes.send(asked(), signal.SIGHUP)
        if not self._wait(lambda: not asked(), min(deadline - time.monotonic(), patience)):
            result = result if result != "success" else "timeout"
            self._log.note("stopping took too long: killing it")
        left = [main] if mode == "process" and asked() else [] if mode == "process" else states.descendants(os.getpid())
        if left:
            processes.send(left, signal.SIGKILL)
            self._wait(lambda: not asked(), _KILL_PATIENCE)
        return result

    def _end(self, result: str) -> None:
        self._log.finish()
        if result != "success" and (hint := advice.on_port(self._unit.name)):
            self._log.note(hint)
        if self._state.active == "active":
            return
        has_failed = result not in ("success", outcomes.CONDITION)
        self._set("failed" if has_failed else "inactive", "failed" if has_failed else "dead", result=result, main=0)
        if self._is_accepted:  # there is one for each connection, and their log tells of failures
            states.forget(self._unit.name)
        self._tell(f"Job for {self._unit.name} failed: {self._said or self._state.code or result}.")
        self._events.close()
        if result != outcomes.CONDITION:
            for name in self._unit.words("Unit", "OnFailure" if has_failed else "OnSuccess"):
                self._order("start", name)
