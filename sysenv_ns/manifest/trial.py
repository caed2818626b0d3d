"""Changes an environment all or nothing: on a copy above its frozen changes, merged with them at the end.

No files are copied. The environment is unchanged until one rename(2) at the end; sessions that start meanwhile wait.
What an interrupted trial has left is in the store's trash, and does not affect the environment.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import NoneType

from sysenv_ns import session
from sysenv_ns.command import own_variables
from sysenv_ns.environment import config, directory, history, layers, rest, running, termination, transaction, uppers
from sysenv_ns.environment.description import Environment, new_ident, read_description, write_description
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest import steps
from sysenv_ns.manifest.steps import Step
from sysenv_ns.reporter import Reporter

_STDERR = 2


@dataclass(frozen=True)
class Trial:
    """An environment with its changes frozen, and the copy that may replace it; the copy is not in the store's list."""

    store: Store
    environment: Environment
    copy: Environment


@contextlib.contextmanager
def begun(store: Store, name: str) -> Iterator[Trial]:
    """A trial, deleted at the end unless it is kept. The environment's lock must be held. Raises SysenvError."""
    _end_others(store, name)
    environment = _frozen(store, store.load(name))
    with transaction.staging(store.trash, _title(name), environment.id_map) as staging:
        copy = replace(environment, ident=new_ident(), path=staging)
        try:
            below = [store.layers / ident for ident in environment.layers]
            layers.prepare(staging, copy, below, environment.path)
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(environment.path / directory.CONFIG, staging / directory.CONFIG)
            yield Trial(store, environment, copy)
        finally:
            _end_all(copy)


def _title(name: str) -> str:
    return f"{transaction.TRIAL}{name}"


def _frozen(store: Store, environment: Environment) -> Environment:
    """The environment with all its changes in frozen layers; for everybody else it is unchanged."""
    rest.refuse_running(store, environment)
    with uppers.locked(store), rest.settled(environment.path):
        ident, chain = history.freeze(store, environment)
        frozen = replace(environment, layers=chain)
        if chain != environment.layers:
            layers.succeed(store, environment, frozen, ident)
    return frozen


def _end_others(store: Store, name: str) -> None:
    """Remove what interrupted trials have left, with the processes that still live there."""
    for path in transaction.left(store.trash, _title(name)):
        with contextlib.suppress(SysenvError):  # it had hardly begun
            copy = read_description(path, name, store.path)
            _end_all(copy)
            transaction.discard([path], copy.id_map)


def end_left(store: Store) -> None:
    """Remove what interrupted trials of any environment have left, as far as this user can."""
    with contextlib.suppress(OSError):
        titles = {path.name.rsplit(".", 2)[0] for path in transaction.abandoned(store.trash)}
        for title in titles:
            if title.startswith(transaction.TRIAL):
                _end_others(store, title.removeprefix(transaction.TRIAL))


def _end_all(copy: Environment) -> None:
    # What lives on keeps the trial in the trash; it says nothing about whether the command has worked.
    with contextlib.suppress(OSError, SysenvError):
        termination.end(copy)
        running.lives(copy)  # waits for what is ending


def carry_out(trial: Trial, wanted: Sequence[Step], reporter: Reporter) -> None:
    """Carry out these steps as root inside. Raises SysenvError, OSError."""
    variables = own_variables(trial.copy.name)
    bound = config.host(trial.store, trial.copy).shown

    def inside() -> None:
        steps.carry_out(wanted, bound, variables, _STDERR)

    session.call_as_root(trial.store, trial.copy, reporter, inside, NoneType, "sysenv-ns-sync")


def keep(trial: Trial, ending: contextlib.ExitStack) -> None:
    """Replace the environment by the result of the trial, with as many layers as before. Raises OSError, SysenvError.

    From then on interrupts are blocked, until the `ending`.
    """
    store, environment, copy = trial.store, trial.environment, trial.copy
    if running.lives(copy):  # waits for what is ending
        raise SysenvError(f"a process of {environment.name} does not end", "nothing was changed; try again")
    with (
        uppers.locked(store),
        rest.settled(copy.path),
        transaction.staging(store.trash, f"synced-{environment.name}", environment.id_map) as target,
    ):
        ending.enter_context(_uninterrupted())
        own = history.exclusive(store, environment)
        target.mkdir(mode=0o755)
        layers.merge(environment, [copy.path, *(store.layers / ident for ident in own)], target)
        write_description(target, replace(environment, layers=environment.layers[len(own) :]))
        layers.inherit(environment.path, target)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(copy.path / directory.ORIGIN, target / directory.ORIGIN)
        transaction.exchange(target, environment.path, whole=True)
    layers.tidy(store)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Block Ctrl-C: a command that reports an interruption must not have succeeded."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
