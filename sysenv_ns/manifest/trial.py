"""Changes an environment beside it, all or nothing: on top of its frozen changes, merged with them at the end.

Nothing is copied. The environment is what it was until one rename(2) at the end; whoever enters it meanwhile waits.
What an interrupted trial has left lies in the store's trash, and has no share in the environment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sysenv_ns import resting, running, session
from sysenv_ns.errors import SysenvError
from sysenv_ns.host import config as config_module
from sysenv_ns.host import layout
from sysenv_ns.kernel import namespace, removal, syscalls
from sysenv_ns.manifest import steps
from sysenv_ns.manifest.steps import Step
from sysenv_ns.packages import origin
from sysenv_ns.session import Reporter
from sysenv_ns.snapshots import history, layers
from sysenv_ns.store import (
    Environment,
    Store,
    read_description,
    sync_directory,
    sync_file_system,
    write_description,
)
from sysenv_ns.upper import fuse

_PATIENCE = 10.0  # seconds that the kernel may take to end killed processes
_STDERR = 2


@dataclass(frozen=True)
class Trial:
    """An environment, whose changes are frozen, and what it may become; that is no environment of the store's."""

    store: Store
    environment: Environment
    copy: Environment


@contextlib.contextmanager
def begun(store: Store, name: str) -> Iterator[Trial]:
    """A trial, of which nothing is left unless it is kept. The environment's lock must be held. Raises SysenvError."""
    _end_others(store, name)
    environment = _frozen(store, store.load(name))
    staging = removal.trash_path(store.trash, _title(name))
    copy = replace(environment, ident=uuid.uuid4().hex, path=staging)
    try:
        below = [store.layers / ident for ident in environment.layers]
        layers.prepare(staging, copy, below, environment.path)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(environment.path / config_module.NAME, staging / config_module.NAME)
        yield Trial(store, environment, copy)
    finally:
        _remove(store, copy)


def _title(name: str) -> str:
    return f"sync-{name}"


def _frozen(store: Store, environment: Environment) -> Environment:
    """The environment with all its changes in frozen layers; for everybody else it is what it was."""
    resting.refuse_running(store, environment)
    with layers.locked(store), fuse.settled(environment.path):
        ident, chain = history.freeze(store, environment)
        frozen = replace(environment, layers=chain)
        if chain != environment.layers:
            layers.succeed(store, environment, frozen, ident)
    return frozen


def _end_others(store: Store, name: str) -> None:
    """Remove what interrupted trials have left, with the processes that still live there."""
    for path in store.trash.iterdir():
        title, *rest = path.name.rsplit(".", 2)
        if title == _title(name) and not Path("/proc", rest[0]).exists():
            with contextlib.suppress(SysenvError, FileNotFoundError):  # it had hardly begun
                _remove(store, read_description(path, name))


def _remove(store: Store, copy: Environment) -> None:
    # What cannot be deleted is in the trash already; it says nothing about whether the command has worked.
    with contextlib.suppress(OSError, SysenvError):
        end(store, copy)
        running.find(copy)  # waits for what is ending
        removal.remove_tree(copy.path, copy.id_map)


def end(store: Store, copy: Environment) -> list[str]:
    """Kill what still runs in a trial; returns what that was. Raises SysenvError."""
    ended: dict[int, str] = {}
    deadline = time.monotonic() + _PATIENCE
    while processes := running.processes(store).get(copy.source, ()):
        if time.monotonic() > deadline:
            raise SysenvError(f"process {processes[0].pid} does not end", "look at it with ps -o stat,wchan")
        ended |= {process.pid: process.command for process in processes}
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    return list(ended.values())


def carry_out(trial: Trial, wanted: Sequence[Step], reporter: Reporter) -> None:
    """Do these steps as root inside. Raises SysenvError, OSError."""
    variables = session.own_variables(trial.copy.name)
    bound = layout.hosts_own(config_module.host(trial.store, trial.copy))

    def inside() -> None:
        steps.carry_out(wanted, bound, variables, _STDERR)

    session.call_as_root(trial.store, trial.copy, reporter, inside, "sysenv-ns-sync")


def keep(trial: Trial, ending: contextlib.ExitStack) -> None:
    """Let the environment be what the trial has become, with as many layers as it had. Raises OSError, SysenvError.

    From then on nobody is told that it was interrupted, until the `ending`.
    """
    store, environment, copy = trial.store, trial.environment, trial.copy
    if running.find(copy) is not None:  # waits for what is ending
        raise SysenvError(f"a process of {environment.name} does not end", "nothing is changed; try it again")
    target = removal.trash_path(store.trash, f"synced-{environment.name}")
    with layers.locked(store), fuse.settled(copy.path):
        ending.enter_context(_uninterrupted())
        try:
            own = history.exclusive(store, environment)
            target.mkdir(mode=0o755)
            directories = [copy.path, *(store.layers / ident for ident in own)]
            namespace.run_inside(
                environment.id_map,
                lambda: layers.merge_uppers(directories, target, environment.driver),
                "sysenv-ns-layer",
            )
            write_description(target, replace(environment, layers=environment.layers[len(own) :]))
            layers.inherit(environment.path, target)
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(copy.path / origin.NAME, target / origin.NAME)
            sync_file_system(target)
            syscalls.exchange(str(target), str(environment.path))
            for path in (store.envs, store.trash):
                sync_directory(path)
        finally:
            with contextlib.suppress(OSError, SysenvError):
                removal.remove_tree(target, environment.id_map)
    with contextlib.suppress(OSError, SysenvError):  # it says nothing about whether it has worked
        layers.collect(store)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Without Ctrl-C: who is told that a command was interrupted shall know what that means."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
