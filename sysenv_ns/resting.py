"""Holds an environment still: it does not run, and nobody starts, changes or removes it meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sysenv_ns import running, sudo
from sysenv_ns.store import Environment, Store
from sysenv_ns.upper import ephemeral, fuse


@contextlib.contextmanager
def at_rest(store: Store, name: str, what: str) -> Iterator[Environment]:
    """An environment, not a throwaway one, of which all files are on the disk. Raises SysenvError.

    `what` is to be done with it, and must not mount it: that waits for the end of this.
    """
    with held(store, name, what) as environment, fuse.settled(environment.path):
        yield environment


@contextlib.contextmanager
def held(store: Store, name: str, what: str) -> Iterator[Environment]:
    """The same, for who mounts it. Raises SysenvError."""
    environment = store.load(name)
    ephemeral.refuse(environment, what)
    sudo.require(environment)
    with store.lock(name):
        environment = store.load(name)  # what it is made of may have changed before
        refuse_running(store, environment)
        yield environment


def refuse_running(store: Store, environment: Environment) -> None:
    """Raise SysenvError while processes live in an environment; those that are ending are waited for."""
    name = environment.name
    if running.find(environment) is not None:
        processes = running.processes(store).get(environment.source, ())
        running.refuse(name, processes, f"leave it, or end its processes: sysenv-ns stop {name}")
