"""Tells which processes live in an environment; starts and ends none.

There is no daemon: an environment runs while a process lives in its mount namespace, and the state file is only a
hint where to look first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns import mountinfo
from sysenv_ns.store import SOURCE_PREFIX, Environment


@dataclass(frozen=True)
class Process:
    """A process of an environment, as /proc shows it."""

    pid: int
    command: str


@dataclass(frozen=True)
class State:
    """What the first session left: itself, its mount namespace's inode, and the base layers it mounted."""

    pid: int
    start_time: int
    namespace: int
    layers: tuple[str, ...]


def record(environment: Environment, layers: tuple[str, ...]) -> None:
    """Write the state file for this process, which has entered its new mount namespace but not pivoted yet."""
    pid = os.getpid()
    state = {
        "pid": pid,
        "start_time": _start_time(pid),
        "namespace": _namespace(pid),
        "layers": layers,
    }
    # No fsync: after a reboot the file says nothing that would be true.
    temporary = environment.path / f"state.{pid}.new"
    temporary.write_text(json.dumps(state))
    os.replace(temporary, environment.path / "state.json")


def read_state(environment_path: Path) -> State | None:
    """The state file, or None when there is none worth reading: it is only a hint."""
    try:
        data = json.loads((environment_path / "state.json").read_bytes())
        return State(int(data["pid"]), int(data["start_time"]), int(data["namespace"]), tuple(data["layers"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def find(environment: Environment) -> int | None:
    """The id of a process to join, or None when the environment does not run.

    Inodes of namespaces are used again, so a candidate also has to have this environment's overlay as its root.
    """
    state = read_state(environment.path)
    if state is None:
        return None
    if _start_time(state.pid) == state.start_time and _belongs(state.pid, state.namespace, environment):
        return state.pid
    return next((pid for pid in _pids() if _belongs(pid, state.namespace, environment)), None)


def processes() -> dict[str, tuple[Process, ...]]:
    """The processes of all environments by `Environment.source`, found without any state file.

    Those in mount namespaces of their own (a sandbox started inside) count too: they keep the overlay mounted.
    """
    found: dict[str, tuple[Process, ...]] = {}
    for pid in _pids():
        for source in _sources(pid):
            found[source] = (*found.get(source, ()), Process(pid, _command(pid)))
    return found


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _belongs(pid: int, namespace: int, environment: Environment) -> bool:
    return _namespace(pid) == namespace and _has_root(pid, environment)


def _namespace(pid: int) -> int | None:
    """The inode of a process's mount namespace; None when it is gone or not ours to look at."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return None


def _has_root(pid: int, environment: Environment) -> bool:
    return environment.source in _sources(pid)


def _sources(pid: int) -> set[str]:
    """The environments whose overlay a process sees; empty when it is gone or not ours to look at."""
    try:
        text = Path(f"/proc/{pid}/mountinfo").read_bytes()
    except OSError:
        return set()
    if SOURCE_PREFIX.encode() not in text:  # nearly all processes: spare the parsing
        return set()
    return {mount.source for mount in mountinfo.parse(text) if mount.source.startswith(SOURCE_PREFIX)}


def inside() -> bool:
    """Whether this process itself lives in an environment, whatever its variables say (sudo clears them)."""
    return bool(_sources(os.getpid()))


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, in clock ticks since boot (proc_pid_stat(5)); None for a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The command name, in parentheses, may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def _command(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
        return text.decode(errors="replace") or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""
