"""Keeps an environment at rest: it does not run, and nobody starts, changes or removes it meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sysenv_ns.environment import ephemeral, running
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.directory import UPPER_LOCK
from sysenv_ns.environment.store import Store
from sysenv_ns.files.locks import file_lock
from sysenv_ns.paths import Path


@contextlib.contextmanager
def at_rest(store: Store, name: str, what: str, reading: bool = False) -> Iterator[Environment]:
    """An environment, not a throwaway one, of which all files are on the disk. Raises SysenvError.

    `what` is to be done with it, and must not mount it: that waits for the end of this. `reading`: nor write anything.
    """
    with held(store, name, what, reading) as environment, settled(environment.path):
        yield environment


@contextlib.contextmanager
def held(store: Store, name: str, what: str, reading: bool = False) -> Iterator[Environment]:
    """The same, for who mounts it. Raises SysenvError."""
    environment = store.load(name)
    ephemeral.refuse(environment, what)
    environment.require_root()
    with (store.reading() if reading else store).lock(name):
        environment = store.load(name)  # what it is made of may have changed before
        refuse_running(store, environment)
        yield environment


def refuse_running(store: Store, environment: Environment) -> None:
    """Raise SysenvError while processes live in an environment; those that are ending are waited for."""
    name = environment.name
    if running.lives(environment):
        processes = running.processes(environment)
        running.refuse(name, processes, f"leave it, or end its processes: sysenv-ns stop {name}")


@contextlib.contextmanager
def settled(environment: Path) -> Iterator[None]:
    """Wait until the last session's server, if there was one, has written all that is in an environment's directory.

    It holds the lock until it has ended. Raises SysenvError.
    """
    lock = environment / UPPER_LOCK
    with file_lock(lock, reading=True) if lock.exists() else contextlib.nullcontext():
        yield
