"""create, list, status, stop, refresh, remove: one function a verb, each returning a frozen result; prints nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns import doctor, running, sudo
from sysenv_ns.errors import NeedsRoot, SysenvError, reason
from sysenv_ns.home import links
from sysenv_ns.home.links import Shown
from sysenv_ns.host import standins
from sysenv_ns.kernel import idmap, namespace, remedies, removal
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import building, drivers
from sysenv_ns.lower.upkeep import Refreshed
from sysenv_ns.packages import drift as drift_module
from sysenv_ns.packages import origin
from sysenv_ns.packages.drift import Drift
from sysenv_ns.packages.origin import Origin
from sysenv_ns.running import Process
from sysenv_ns.session import Reporter
from sysenv_ns.snapshots import layers
from sysenv_ns.store import Environment, Ephemeral, Store, check_name, file_lock, timestamp
from sysenv_ns.sudo import Caller
from sysenv_ns.upper import ephemeral

_KILL_PATIENCE = 5.0  # seconds that the kernel may take to end a killed process


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

    @property
    def running(self) -> bool:
        """Whether a process lives in it."""
        return bool(self.processes)


def create(
    store: Store, name: str, driver: str, id_map_kind: str, reporter: Reporter, throwaway: Ephemeral | None = None
) -> Environment:
    """Make an environment, and its base when there is none yet. Raises SysenvError; then nothing half-made is left."""
    ephemeral.check_free(store, name, throwaway)
    store.prepare()
    driver, id_map = doctor.choose(store, driver, id_map_kind)
    path = store.envs / name
    environment = Environment(name, uuid.uuid4().hex, driver, id_map, timestamp(), path, ephemeral=throwaway)
    drivers.get(driver).build_base(store, environment, reporter.progress)
    staging = removal.trash_path(store.trash, f"new-{name}")
    try:
        staging.mkdir(mode=0o755)  # the store is closed; what root makes by way of sudo shall be readable
        for directory in ("upper", "work", "root"):
            (staging / directory).mkdir(mode=0o755)
        (staging / "lock").touch(mode=0o600)
        added = (standins.prompt(name), *drivers.get(driver).additions())
        key = origin.remember(store)
        origin.write(staging, Origin(key, key))
        building.write(building.additions(added), staging / "upper", id_map, many=False)
        store.add(environment, staging)
    except OSError as error:
        _discard(staging, id_map)
        raise SysenvError(f"creating {name} failed: {reason(error)}", remedies.storage(error, store.path)) from error
    except BaseException:
        _discard(staging, id_map)
        raise
    return environment


def _discard(staging: Path, id_map: IdMap | None) -> None:
    if staging.exists():
        removal.remove_tree(staging, id_map)


def status(store: Store, name: str) -> Status:
    """One environment with its processes. Raises SysenvError when there is none of that name."""
    return _status(store, name, running.processes(store))


def _status(store: Store, name: str, found: Mapping[str, tuple[Process, ...]]) -> Status:
    """One environment; a damaged one has a `problem`. Raises SysenvError when there is none of that name."""
    path = store.envs / check_name(name)
    if not store.exists(name):
        raise store.unknown(name)
    try:
        environment, shown = store.load(name), links.show(path)
    except SysenvError as error:
        return Status(name, "", None, 0.0, str(path), running.of_damaged(path), error.message)
    kind = environment.id_map.kind if environment.id_map else None
    processes = found.get(environment.source, ())
    changed = bool(processes) and running.host_changed(path)
    drift = drift_module.measure(store, environment)
    return Status(
        name,
        environment.driver,
        kind,
        environment.created,
        str(path),
        processes,
        host_changed=changed,
        drift=drift,
        snapshots=tuple(snapshot.label for snapshot in environment.snapshots),
        links=shown,
        ephemeral=environment.ephemeral,
    )


def list_all(store: Store) -> list[Status]:
    """All environments, sorted by name."""
    found = running.processes(store)
    statuses = []
    for name in store.names():
        with contextlib.suppress(SysenvError):  # removed since the names were read
            statuses.append(_status(store, name, found))
    return statuses


def stop(store: Store, name: str, grace: float) -> list[Process]:
    """End all processes of an environment, by SIGTERM and after `grace` seconds by SIGKILL; returns those it ended.

    Raises SysenvError when one cannot be ended.
    """
    environment = store.load(name)
    sudo.require(environment)
    ended: dict[int, Process] = {}
    deadline = time.monotonic() + grace
    signalled: set[int] = set()
    while processes := running.processes(store).get(environment.source):
        ended |= {process.pid: process for process in processes}
        late = time.monotonic() > deadline
        if time.monotonic() > deadline + _KILL_PATIENCE:
            left = ", ".join(str(process.pid) for process in processes)
            raise SysenvError(f"these processes of {name} do not end: {left}", "look at them with ps -o stat,wchan")
        for process in processes:
            if late:
                _signal(process.pid, signal.SIGKILL)
            elif process.pid not in signalled:
                _signal(process.pid, signal.SIGTERM)
                _signal(process.pid, signal.SIGCONT)  # a stopped one would not see it
                signalled.add(process.pid)
        time.sleep(0.02)
    return list(ended.values())


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def refresh(store: Store, name: str | None, reporter: Reporter) -> Refreshed:
    """Compare every file of one environment's base with the host, or of all bases, and renew what differs.

    Raises SysenvError.
    """
    names = [check_name(name)] if name is not None else store.names()
    environments = [store.load(found) for found in names]
    bases = {drivers.base(store, found).path: found for found in environments}
    refreshed = Refreshed()
    for environment in bases.values():
        sudo.require(environment)
        refreshed += drivers.get(environment.driver).refresh_base(store, environment, reporter.progress)
    return refreshed


def remove(store: Store, name: str, caller: Caller | None = None) -> None:
    """Delete an environment, its links and all its files. Raises SysenvError when it runs."""
    path = store.directory(name)
    try:
        environment = store.load(name)
    except SysenvError:
        processes = running.of_damaged(path)
        running.refuse(name, processes, f"end its processes: kill {' '.join(str(p.pid) for p in processes)}")
        if os.access(path / links.NAME, os.R_OK):
            _remove_links(path, caller)
        _remove_damaged(store, path)
        return
    sudo.require(environment)
    with store.lock(name):
        processes = running.processes(store).get(environment.source, ())
        running.refuse(name, processes, f"leave it, or end its processes: sysenv-ns stop {name}")
        _remove_links(path, caller)
        trashed = _to_trash(store, path, environment.id_map)
    _delete(trashed, environment.id_map)
    removal.empty_trash(store.trash, environment.id_map)
    _free_layers(store)
    origin.collect(store)


def _free_layers(store: Store) -> None:
    try:
        layers.collect(store)
    except OSError as error:
        raise SysenvError(
            f"{error.filename} cannot be deleted: {reason(error)}", "delete it by hand as root"
        ) from error


def _remove_links(path: Path, caller: Caller | None) -> None:
    """While the environment has its record: when it is removed, nothing else knows them."""
    try:
        links.remove(path, None, links.acting_for(caller))
    except OSError as error:
        raise SysenvError(f"{error.filename} cannot be deleted: {reason(error)}", "delete it by hand") from error


def remove_ended(store: Store) -> None:
    """Delete the throwaway environments that have ended, as far as this user can."""
    for environment in ephemeral.ended(store):
        # Other processes may live in it yet, or another command is removing it.
        with contextlib.suppress(SysenvError):
            remove(store, environment.name)


def remove_unused_bases(store: Store) -> list[str]:
    """Delete the bases that no environment needs; returns their names. Raises SysenvError."""
    used = set()
    for name in store.names():
        environment = store.load(name)  # a damaged one could need any of them: the error says to remove it first
        used.add(drivers.base(store, environment).path)
    removed = []
    for path in sorted(set(store.base.iterdir()) - used) if store.base.is_dir() else ():
        id_map = idmap.single(os.getuid(), os.getgid()) if "-single-" in path.name else idmap.detect_full()
        with file_lock(path / "lock"):
            trashed = _to_trash(store, path, id_map)
        _delete(trashed, id_map)
        removed.append(path.name)
    return removed


def _remove_damaged(store: Store, path: Path) -> None:
    """Its description does not tell the id map of its files, but their owner does. Raises SysenvError."""
    if path.lstat().st_uid == 0 != os.geteuid():
        raise NeedsRoot(f"{path} belongs to root", "run sysenv-ns with sudo")
    if os.geteuid() == 0 or not (path / "upper").exists():
        _driver, id_map = doctor.choose(store, "auto", "auto")
    elif (path / "upper").stat().st_uid == os.getuid():
        id_map = idmap.single(os.getuid(), os.getgid())
    else:
        id_map = idmap.detect_full()
    _delete(_to_trash(store, path, id_map), id_map)
    _free_layers(store)


def _to_trash(store: Store, path: Path, id_map: IdMap | None) -> Path:
    # While it still has its name: without the id map its files could only be lost, not deleted.
    namespace.run_inside(id_map, lambda: None, "sysenv-ns-rm")
    try:
        return removal.move_to_trash(path, store.trash)
    except OSError as error:
        raise SysenvError(f"{path} cannot be moved away: {reason(error)}") from error


def _delete(path: Path, id_map: IdMap | None) -> None:
    try:
        removal.remove_tree(path, id_map)
    except OSError as error:
        raise SysenvError(f"{path} cannot be deleted: {reason(error)}", "delete it by hand as root") from error
