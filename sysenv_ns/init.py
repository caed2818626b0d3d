"""The systemd that is process 1 of an environment, as others see it: has it booted, joins it, and powers it off.

keeper.py boots it.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from sysenv_ns.basics import opened
from sysenv_ns.environment import directory, running
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.state import read_state
from sysenv_ns.environment.store import Store
from sysenv_ns.environment.termination import Termination
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import reader
from sysenv_ns.host import manager
from sysenv_ns.kernel import cgroups, children, syscalls, waiting
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.namespace import Mounts
from sysenv_ns.kernel.processes import parent_of, started_at
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass
from sysenv_ns.reporter import Reporter

PROGRAMS = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
POWER_OFF = signal.SIGRTMIN + 4  # systemd(1)
PATIENCE = 95.0  # seconds for that: more than systemd gives a service by default
NOTIFY = "NOTIFY_SOCKET"
READY = b"READY=1"
_START_PATIENCE = "10min"  # a first start after an upgrade of the host compares every file
_LEAVE = 5.0  # seconds for what is left after its end
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_PREFIX, _HINT = "sysenv-ns: ", "hint: "
_LIMIT = 1 << 16  # bytes of what is said


def require(id_map: IdMap | None, name: str) -> None:
    """Raise SysenvError for an environment that cannot have it."""
    if id_map is None or id_map.kind != "full":
        raise SysenvError(
            f"{name} has no users that services could run as: systemd as process 1 needs the full id map",
            "sysenv-ns doctor tells what the full id map needs; or leave out --init: services run without it too",
        )


def program() -> str | None:
    """The systemd of the root that this process sees; None where there is none."""
    return next((path for path in PROGRAMS if os.access(path, os.X_OK)), None)


def ensure(store: Store, environment: Environment, reporter: Reporter) -> None:
    """Have an environment booted if it does not run, and wait until it is up. Raises SysenvError."""
    if running.lives(environment):
        return
    require(environment.id_map, environment.name)
    from sysenv_ns.drivers import driver  # who joins needs none

    driver.of(environment).agree(store, reporter.ask, by_name=True)  # the keeper has no terminal to ask on
    log = environment.path / f"{directory.BOOT_LOG}-{os.getpid()}"  # several sessions may begin together
    command = [sys.executable, "-I", "-m", "sysenv_ns", "start", "--foreground", environment.name]
    variables = manager.variables_for(os.environ)
    run = manager.program("systemd-run")
    if variables is not None and run is not None:
        said = children.complaint(run, [run, *_unit(store, environment, log), *command], variables)
    else:
        said = _beside(command, {**os.environ, "SYSENV_NS_HOME": str(store.named)}, log)
    told = (reader.get(log, _LIMIT) or b"").decode(errors="replace")
    with suppress(FileNotFoundError):
        log.unlink()
    if said is not None:
        raise _failure(environment.name, told or said)
    for line in told.splitlines():
        reporter.notice(line.removeprefix(_PREFIX))


def _unit(store: Store, environment: Environment, log: Path) -> list[str]:
    """The options for a unit of the user's manager that has a control group of its own and ends it cleanly."""
    properties = {
        "Delegate": "yes",
        "KillMode": "mixed",  # the keeper alone gets SIGTERM
        "TimeoutStartSec": _START_PATIENCE,
        "TimeoutStopSec": str(int(PATIENCE + _LEAVE)),
        "StandardError": f"file:{log}",
    }
    return [
        *("--user", "--quiet", "--collect", "--service-type=notify"),
        f"--unit=sysenv-ns-{environment.name}-{os.getpid()}",
        f"--description=The environment {environment.name}",
        f"--setenv=SYSENV_NS_HOME={store.named}",
        *(f"--property={name}={value}" for name, value in properties.items()),
    ]


def _beside(command: list[str], variables: dict[str, str], log: Path) -> str | None:
    """Start the keeper in this session's control group; what it complains of, or None when it is up."""
    alive, kept = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind("")  # the kernel chooses an abstract name, unix(7)
        address = f"@{ready.getsockname()[1:].decode()}"

        def become() -> None:
            children.leave_session({kept}, "sysenv-ns-init")
            # The lowest free numbers: the standard streams.
            for path, flags in ((os.devnull, os.O_RDONLY), (os.devnull, os.O_WRONLY), (log, _NEW)):
                os.set_inheritable(os.open(path, flags, 0o600), True)
            os.set_inheritable(kept, True)
            os.execve(command[0], command, {**variables, NOTIFY: address})

        children.reap(children.start_detached(become))
        os.close(kept)
        while True:
            found, _, _ = select.select([ready.fileno(), alive], [], [])
            if ready.fileno() in found and READY in ready.recv(4096):
                os.close(alive)
                return None
            if alive in found:
                os.close(alive)
                return "it has ended without a word"


def _failure(name: str, said: str) -> SysenvError:
    """What the keeper has said, as it would be said here."""
    lines = said.splitlines()
    messages = [line.removeprefix(_PREFIX) for line in lines if not line.startswith(_HINT)]
    hints = [line.removeprefix(_HINT) for line in lines if line.startswith(_HINT)]
    return SysenvError(messages[-1] if messages else f"{name} does not boot", hints[-1] if hints else "")


@dataclass(frozen=True)
class First:
    """Process 1 of a running environment, by its number on the host, and its namespaces as descriptors."""

    pid: int
    processes: int
    groups: int

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.processes)
        os.close(self.groups)

    def enter(self) -> None:
        """Enter its namespaces, from within its mount and user namespace: this returns in a child. Raises OSError."""
        try:
            syscalls.setns(self.groups, syscalls.CLONE_NEWCGROUP)
            syscalls.setns(self.processes, syscalls.CLONE_NEWPID)
        finally:
            self.close()
        # When all is shut down everybody is stopped before being ended, and nobody would continue this process.
        waiting.in_child(lambda: None, unfollowed=(signal.SIGSTOP,))


def first(environment: Environment, mounts: Mounts) -> First:
    """It, from the host's side. Raises SysenvError where it has just ended."""
    pid = number(environment)
    with suppress(OSError):
        if pid is not None and mounts.has(pid):
            found = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("pid", "cgroup")]
            return First(pid, *found)
    raise SysenvError(
        f"{environment.name} runs without its process 1: it is shutting down, or was entered with --no-init",
        f"try again in a moment, or after: sysenv-ns stop {environment.name}",
    )


def number(environment: Environment) -> int | None:
    """Its number on the host; None where it does not run."""
    state = read_state(environment.path)
    if state is not None and started_at(state.pid) == state.start_time and _is_first(state.pid):
        return state.pid
    return next((process.pid for process in running.processes(environment) if _is_first(process.pid)), None)


def _is_first(pid: int) -> bool:
    numbers = numbers_of(pid)
    return len(numbers) == len(numbers_of(os.getpid())) + 1 and numbers[-1] == 1


def numbers_of(pid: int) -> list[int]:
    """The numbers of a process, from this process namespace to its own (NSpid in proc_pid_status(5))."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
        return next(([int(word) for word in line.split()[1:]] for line in lines if line.startswith("NSpid:")), [])
    return []


def power_off(environment: Environment, grace: float) -> bool:
    """Let process 1 stop all services and end; whether there was one.

    What belongs to no service gets SIGTERM, and SIGKILL after `grace` seconds; process 1 gets that when it takes too
    long.
    """
    pid = number(environment)
    if pid is None:
        return False
    with (
        suppress(ProcessLookupError),
        opened(os.pidfd_open(pid)) as ended,
        opened(os.pidfd_open(parent_of(pid))) as keeper,
    ):
        group = os.path.dirname(cgroups.path_of(pid) or "/")
        signal.pidfd_send_signal(ended, POWER_OFF)
        deadline = time.monotonic() + PATIENCE
        sessions = Termination(environment, grace)
        while not select.select([ended], [], [], 0.05)[0]:
            sessions.urge(_others(environment, group) - {pid})
            if time.monotonic() > deadline:
                signal.pidfd_send_signal(ended, signal.SIGKILL)
        select.select([keeper], [], [], _LEAVE)  # it deletes the control group
    return True


def others(environment: Environment) -> set[int]:
    """The processes that belong to no service: sessions, and what they have left."""
    pid = number(environment)
    if pid is None:
        return set()
    return _others(environment, os.path.dirname(cgroups.path_of(pid) or "/")) - {pid}


def _others(environment: Environment, group: str) -> set[int]:
    found = set()
    for process in running.processes(environment):
        with suppress(OSError):
            place = cgroups.path_of(process.pid)
            if place is None or not f"{place}/".startswith(f"{group}/"):
                found.add(process.pid)
    return found
