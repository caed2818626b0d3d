"""Tells which processes live in an environment; starts and ends none.

There is no daemon: an environment runs while a process lives in its mount namespace, and the state file is only a
hint where to look first.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns.errors import SysenvError
from sysenv_ns.host import refresh
from sysenv_ns.host.index import Signature
from sysenv_ns.kernel import children, mountinfo, namespace
from sysenv_ns.store import SOURCE_PREFIX, Environment, Store

_END_PATIENCE = 3.0  # seconds that the kernel may take to end processes that have begun to


@dataclass(frozen=True)
class Process:
    """A process of an environment, as /proc shows it."""

    pid: int
    command: str


@dataclass(frozen=True)
class State:
    """What the first session left: itself, its mount namespace's inode, the base layers it mounted, and the host's
    signs (refresh.signs) as they were before.
    """

    pid: int
    start_time: int
    namespace: int
    layers: tuple[str, ...]
    signs: Mapping[str, Signature | None] | None = None


def record(environment: Environment, layers: tuple[str, ...], signs: Mapping[str, Signature | None]) -> None:
    """Write the state file for this process, which has entered its new mount namespace but not pivoted yet."""
    pid = os.getpid()
    state = {
        "pid": pid,
        "start_time": _start_time(pid),
        "namespace": _namespace(pid),
        "signs": signs,
        "layers": layers,
    }
    # No fsync: after a reboot the file says nothing that would be true.
    temporary = environment.path / "state.json.new"  # the same after a kill
    temporary.write_text(json.dumps(state))
    os.replace(temporary, environment.path / "state.json")


def read_state(environment_path: Path) -> State | None:
    """The state file, or None when there is none worth reading: it is only a hint."""
    try:
        data = json.loads((environment_path / "state.json").read_bytes())
        pid, start_time, namespace_ = (int(data[key]) for key in ("pid", "start_time", "namespace"))
        return State(pid, start_time, namespace_, tuple(data["layers"]), data.get("signs"))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def host_changed(environment_path: Path) -> bool:
    """Whether the host's programs have changed since the environment was started, which must run. Cheap."""
    state = read_state(environment_path)
    return state is not None and state.signs is not None and state.signs != refresh.signs()


def find(environment: Environment) -> int | None:
    """The id of a process to join, or None when the environment does not run.

    Inodes of namespaces are used again, so a candidate also has to have this environment's overlay as its root.
    Raises SysenvError when only processes that cannot be joined are left.
    """
    state = read_state(environment.path)
    if state is not None and _is_first(state) and environment.source in _sources(_mount_table(state.pid)):
        return state.pid
    groups, leaving, _ = _elsewhere()
    if state is not None and environment.source in _sources_in(groups.get(state.namespace, ()), thorough=True):
        return groups[state.namespace][0]
    others = [pid for pids in groups.values() if environment.source in _sources_in(pids) for pid in pids]
    if not others:
        _await_end([*leaving, *(pid for pids in groups.values() for pid in pids if _is_leaving(pid))])
        return None
    # The state file is lost, or only sandboxes live on: starting would mount the upper a second time.
    joinable = [pid for pid in others if namespace.is_of_a_session(pid, environment.id_map is not None)]
    if state is None and joinable:
        # A namespace made later has copies of the mounts, with greater ids.
        return min(joinable, key=lambda pid: _root_mount(pid, environment))
    listed = ", ".join(f"{pid} ({_command(pid)})" for pid in others[:5])
    raise SysenvError(
        f"{environment.name} cannot be entered: only a sandbox that was started inside still runs: {listed}",
        f"end it: sysenv-ns stop {environment.name}",
    )


def _is_first(state: State) -> bool:
    """Whether the process of the state file still lives, and where it did."""
    return _start_time(state.pid) == state.start_time and _namespace(state.pid) == state.namespace


def _root_mount(pid: int, environment: Environment) -> int:
    """The mount id of the environment's root as this process sees it; a great one for a process that is gone."""
    lines = _mount_table(pid).decode(errors="replace").splitlines()
    ids = (int(line.split()[0]) for line in lines if environment.source in line.split())
    return min(ids, default=sys.maxsize)


def processes(store: Store) -> dict[str, tuple[Process, ...]]:
    """The processes of all environments by `Environment.source`, found also where their state files are lost.

    Those in mount namespaces of their own (a sandbox started inside) count too: they keep the overlay mounted.
    """
    states = [read_state(store.envs / name) for name in store.names()]
    recorded = {state.namespace for state in states if state is not None}
    groups, _, hidden = _elsewhere()
    found: dict[str, tuple[Process, ...]] = {}
    for inode, pids in groups.items():
        for source in _sources_in(pids, thorough=inode in recorded):
            found[source] = (*found.get(source, ()), *(Process(pid, _command(pid)) for pid in pids))
    if os.geteuid() != 0 and recorded - groups.keys():
        # Of root's, by way of sudo, only the mounts can be read.
        for pid in hidden:
            for source in _sources(_mount_table(pid)):
                found[source] = (*found.get(source, ()), Process(pid, _command(pid)))
    return found


def of_damaged(environment_path: Path) -> tuple[Process, ...]:
    """The processes of an environment whose name in mount tables is lost: those where its state file says."""
    state = read_state(environment_path)
    pids = _elsewhere()[0].get(state.namespace, ()) if state is not None else ()
    return tuple(Process(pid, _command(pid)) for pid in pids) if _sources_in(pids, thorough=True) else ()


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _elsewhere() -> tuple[dict[int, list[int]], list[int], list[int]]:
    """All processes in other mount namespaces than ours, by these; those that have just left theirs, to end; and those
    that are not ours to look at.
    """
    own = _namespace(os.getpid())
    groups: dict[int, list[int]] = {}
    leaving: list[int] = []
    hidden: list[int] = []
    for pid in _pids():
        try:
            inode = os.stat(f"/proc/{pid}/ns/mnt").st_ino
        except FileNotFoundError:
            leaving.append(pid)
        except OSError:
            hidden.append(pid)
        else:
            if inode != own:
                groups.setdefault(inode, []).append(pid)
    return groups, leaving, hidden


def _is_leaving(pid: int) -> bool:
    """Whether a process is ending and has no mount namespace any more, or is gone."""
    return _namespace(pid) is None


def _await_end(pids: Sequence[int]) -> None:
    """Wait for processes that are ending: the last one of a namespace takes its mounts down after it has left it.

    Mounting the same upper before that is what the kernel warns of ("in-use"). In do_exit(), exit_task_namespaces()
    comes before exit_task_work(), which does the unmounting, and exit_notify(), which the descriptor tells of.
    """
    deadline = time.monotonic() + _END_PATIENCE
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:  # it is gone
            continue
        try:
            ended = select.poll()
            ended.register(descriptor, select.POLLIN)
            ended.poll(max(0, int(1000 * (deadline - time.monotonic()))))
        finally:
            os.close(descriptor)


def _namespace(pid: int) -> int | None:
    """The inode of a process's mount namespace; None when it is gone or not ours to look at."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return None


def _sources_in(pids: Sequence[int], thorough: bool = False) -> set[str]:
    """The environments whose overlay is in the mount namespace that these processes share."""
    tables = [_mount_table(pid) for pid in pids]
    found = set[str]().union(*map(_sources, tables))
    # A process sees the mounts below its own root only, and in a chroot (of a mail or name server) there may be none.
    if pids and not found and (thorough or not any(b" / / " in table for table in tables)):
        with contextlib.suppress(OSError, SysenvError):  # it is gone, or not ours to enter
            seen = children.call(lambda: _sources_from_inside(pids[0]), "sysenv-ns-look")
            assert isinstance(seen, list)
            return set(seen)
    return found


def _sources_from_inside(pid: int) -> list[str]:
    # Opened before: what is mounted on /proc there may lie, or block.
    own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    namespace.join(pid)
    with open(os.open("mountinfo", os.O_RDONLY, dir_fd=own), "rb") as stream:
        return sorted(_sources(stream.read()))


def _mount_table(pid: int) -> bytes:
    """The mounts that a process sees; none when it is gone or not ours to look at."""
    try:
        return Path(f"/proc/{pid}/mountinfo").read_bytes()
    except OSError:
        return b""


def _sources(table: bytes) -> set[str]:
    """The environments whose overlay is in a mount table."""
    if SOURCE_PREFIX.encode() not in table:  # of nearly all processes: spare the parsing
        return set()
    return {mount.source for mount in mountinfo.parse(table) if mount.source.startswith(SOURCE_PREFIX)}


def inside() -> bool:
    """Whether this process itself lives in an environment, whatever its variables say (sudo clears them)."""
    return bool(_sources(_mount_table(os.getpid())))


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


def refuse(name: str, processes: tuple[Process, ...], hint: str) -> None:
    """Raise SysenvError when there are processes."""
    if processes:
        listed = ", ".join(f"{p.pid} ({p.command})" for p in processes[:5])
        raise SysenvError(f"{name} is running: {listed}", hint)
