"""Ends the processes of an environment, by signals to what is surely its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress

from sysenv_ns.environment import running
from sysenv_ns.environment.description import Environment
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel.processes import Process

_KILL_PATIENCE = 10.0  # seconds that the kernel may take to end a killed process


def end(environment: Environment, grace: float = 0) -> list[Process]:
    """End all of them, by SIGTERM and after `grace` seconds by SIGKILL; returns those it ended.

    Raises SysenvError if one cannot be ended, or only by root.
    """
    environment.require_root()
    ended: dict[int, Process] = {}
    termination = Termination(environment, grace)
    deadline = time.monotonic() + grace + _KILL_PATIENCE
    while processes := running.processes(environment):
        ended |= {process.pid: process for process in processes}
        if time.monotonic() > deadline:
            left = ", ".join(str(process.pid) for process in processes)
            raise SysenvError(
                f"these processes of {environment.name} do not end: {left}", "look at them with ps -o stat,wchan"
            )
        termination.urge({process.pid for process in processes})
        time.sleep(0.02)
    return list(ended.values())


class Termination:
    """Ends processes of an environment: by SIGTERM, once for each, and by SIGKILL after `grace` seconds."""

    def __init__(self, environment: Environment, grace: float) -> None:
        self._environment = environment
        self._deadline = time.monotonic() + grace
        self._told: set[int] = set()

    def urge(self, pids: set[int]) -> None:
        """Send to those that are left what is due. To be repeated until there are none."""
        if time.monotonic() >= self._deadline:
            _send(self._environment, pids, signal.SIGKILL)
        elif new := pids - self._told:
            _send(self._environment, new, signal.SIGTERM, signal.SIGCONT)  # a stopped one would not see the first
            self._told |= new


def _send(environment: Environment, pids: Iterable[int], *numbers: int) -> None:
    """Send signals to processes of an environment; not to what has got the number of one that is gone meanwhile."""
    descriptors: dict[int, int] = {}
    try:
        for pid in pids:
            with suppress(OSError):
                descriptors[pid] = os.pidfd_open(pid)
        # Held by descriptors, they are what this finds under their numbers.
        living = {process.pid for process in running.processes(environment)}
        for pid in descriptors.keys() & living:
            with suppress(ProcessLookupError):
                for number in numbers:
                    signal.pidfd_send_signal(descriptors[pid], number)
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
