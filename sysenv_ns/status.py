"""The present state of an environment, as list and status show it: what it was made of, and what runs in it."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import suppress
from sysenv_ns.environment import directory, running, state
from sysenv_ns.environment.description import Environment, Ephemeral
from sysenv_ns.environment.store import Store, check_name
from sysenv_ns.errors import SysenvError
from sysenv_ns.packages import drift as drift_module
from sysenv_ns.records import dataclass, replace

if TYPE_CHECKING:
    from sysenv_ns.environment.links import Shown
    from sysenv_ns.environment.running import Scan
    from sysenv_ns.kernel.processes import Process
    from sysenv_ns.packages.drift import Drift
    from sysenv_ns.paths import Path
    from sysenv_ns.service import Service


@dataclass(frozen=True)
class Status:
    """One environment as list and status show it."""

    name: str
    driver: str
    id_map: str | None
    created: float
    path: str
    processes: tuple[Process, ...]
    problem: str = ""
    host_changed: bool = False  # since it was started, while it runs
    drift: Drift | None = None  # None for one that is damaged
    snapshots: tuple[str, ...] = ()  # their labels, the oldest first
    links: tuple[Shown, ...] = ()
    ephemeral: Ephemeral | None = None
    here: bool = False  # whether this process lives in it; then the processes are those that can be seen from there
    unseen: bool = False  # whether this process lives in another one, where what lives in this one cannot be seen
    services: tuple[Service, ...] = ()
    init: bool = False

    @property
    def running(self) -> bool | None:
        """Whether a process lives in it; None if that cannot be seen from here."""
        return None if self.unseen else bool(self.processes)

    @property
    def has_drifted(self) -> bool:
        """Whether there is a reason for a rebase, as far as that is known."""
        return self.drift is not None and self.drift.is_there


def of(store: Store, name: str) -> Status:
    """One environment with its processes and services. Raises SysenvError when there is none of that name."""
    part = store.holding(name)
    if sources := running.here():
        return _from_inside(part, name, sources)
    from sysenv_ns import units

    with running.scan() as seen:
        found = _of(part, name, seen, is_whole=True)
    # What real root has is not for others to look into.
    if found.problem or not found.running or (found.id_map is None and os.geteuid() != 0):
        return found
    with suppress(SysenvError, OSError):  # it has just ended, or only a sandbox is left
        return replace(found, services=units.of(part.load(name)))
    return found


def _from_inside(store: Store, name: str, sources: frozenset[str]) -> Status:
    """As `_of`, from inside an environment, where the host's files that others are compared with cannot be seen."""
    environment, described = _described(store, name)
    if environment is None:
        return described
    here = environment.source in sources
    processes = running.neighbours() if here else running.first(environment)
    return replace(described, processes=processes, here=here, unseen=not processes)


def _of(store: Store, name: str, seen: Scan, is_whole: bool) -> Status:
    """One environment; a damaged one has a `problem`. Raises SysenvError when there is none of that name.

    Unless it `is_whole`, its drift has only what tells whether it is there.
    """
    environment, described = _described(store, name)
    if environment is None:
        return replace(described, processes=seen.of_damaged(store.envs / name))
    processes = seen.of(environment)
    changed = bool(processes) and state.host_changed(environment.path)
    drift = (drift_module.measure if is_whole else drift_module.glance)(store, environment)
    return replace(described, processes=processes, host_changed=changed, drift=drift)


def _described(store: Store, name: str) -> tuple[Environment | None, Status]:
    """An environment, None for a damaged one, and what its files say. Raises SysenvError when there is none."""
    path = store.envs / check_name(name)
    if not store.exists(name):
        raise store.unknown(name)
    try:
        environment, shown = store.load(name), _links(path)
    except SysenvError as error:
        return None, Status(name, "", None, 0.0, str(path), (), error.message)
    return environment, Status(
        environment.name,
        environment.driver,
        environment.id_map.kind if environment.id_map else None,
        environment.created,
        str(environment.path),
        (),
        snapshots=tuple(snapshot.label for snapshot in environment.snapshots),
        links=shown,
        ephemeral=environment.ephemeral,
        init=environment.init,
    )


def _links(path: Path) -> tuple[Shown, ...]:
    """The links of an environment. Raises SysenvError."""
    if not os.path.lexists(path / directory.LINKS):
        return ()
    from sysenv_ns.environment import links

    return links.show(path)


def all_of(store: Store, is_whole: bool = False) -> list[Status]:
    """All environments, sorted by name; unless they are whole, their drift has only what tells whether it is there."""
    statuses = []
    sources = running.here()
    with running.scan() as seen:
        for part in store.parts():
            for name in part.names():
                with suppress(SysenvError):  # removed since the names were read
                    statuses.append(_from_inside(part, name, sources) if sources else _of(part, name, seen, is_whole))
    return sorted(statuses, key=lambda status: status.name)
