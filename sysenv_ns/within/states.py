"""The states of started units: a file for each in /run, written only by its supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace

from sysenv_ns.within import processes

DIRECTORY = "/run/sysenv-ns/units"
PREPARED = f"{DIRECTORY}/prepared"  # made with the first order after a start of the environment
_SUFFIX = ".json"


@dataclass(frozen=True)
class UnitState:
    """A unit at a moment. Times are seconds since the epoch; 0 for a process means none."""

    name: str
    active: str = "inactive"  # activating, active, reloading, deactivating, failed
    sub: str = "dead"  # running, exited, auto-restart ...
    since: float = 0.0
    main: int = 0
    main_started: int = 0  # clock ticks since boot, with the number they identify a process
    supervisor: int = 0
    supervisor_started: int = 0
    result: str = "success"
    code: str = ""  # how the main process ended
    said: str = ""  # STATUS= of sd_notify(3)
    restarts: int = 0
    invocation: str = ""
    started: float = 0.0  # when it was started last
    next: float = 0.0  # of a timer: when it elapses
    last: float = 0.0  # of a timer: when it has elapsed last

    @property
    def is_active(self) -> bool:
        """As is-active has it."""
        return self.active in ("active", "reloading")

    @property
    def runs(self) -> bool:
        """Whether there is something to be stopped."""
        return self.active not in ("inactive", "failed")

    @property
    def is_supervised(self) -> bool:
        """Whether its supervisor lives."""
        return processes.lives(self.supervisor, self.supervisor_started)

    @property
    def main_pid(self) -> int:
        """The main process, if that lives."""
        return self.main if processes.lives(self.main, self.main_started) else 0


def read(name: str) -> UnitState:
    """What is known of a unit: inactive where nothing is. One whose supervisor was killed has failed."""
    try:
        with open(os.open(_path(name), os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as stream:
            data = json.load(stream)
        state = UnitState(**{field.name: data[field.name] for field in fields(UnitState)})
    except (OSError, ValueError, KeyError, TypeError):
        return UnitState(name)
    # What has run to its end and stays active has no supervisor any more.
    if state.active in ("failed", "inactive") or state.sub == "exited" or state.is_supervised:
        return state
    return replace(state, active="failed", sub="failed", result="supervisor-killed")


def write(state: UnitState) -> None:
    """Replace what is known of a unit, at once. Raises OSError."""
    os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
    path = _path(state.name)
    with open(f"{path}.new", "w", encoding="utf-8") as stream:
        json.dump(asdict(state), stream)
    os.rename(f"{path}.new", path)


def forget(name: str) -> None:
    """Nothing is known of a unit any more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(name))


def known() -> Iterator[UnitState]:
    """The states of all units of which something is known, by name."""
    try:
        found = sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return
    for file in found:
        if file.endswith(_SUFFIX):
            yield read(file[: -len(_SUFFIX)])


def descendants(pid: int) -> list[int]:
    """All processes below one, by their parents. A supervisor gets the orphans of its unit, so they are below it.

    Not what belongs to another unit: a job of cron can have started one.
    """
    others = {state.supervisor for state in known() if state.is_supervised} - {pid}
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) not in others and (found := processes.stat(int(name))):
            children.setdefault(int(found[1]), []).append(int(name))
    below: list[int] = []
    waiting = [pid]
    while waiting:
        found_below = children.get(waiting.pop(), [])
        below += found_below
        waiting += found_below
    return sorted(below)


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def boot() -> float:
    """When services of the environment were first given orders since it was started."""
    try:
        return os.stat(PREPARED).st_mtime
    except FileNotFoundError:
        return now()


def _path(name: str) -> str:
    return f"{DIRECTORY}/{name}{_SUFFIX}"
