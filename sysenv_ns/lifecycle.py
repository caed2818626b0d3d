"""Creates and deletes environments, and deletes bases that are no longer needed."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from sysenv_ns import launcher, policy, sudo
from sysenv_ns.drivers import choose, driver
from sysenv_ns.environment import config, directory, ephemeral, layers, links, running, shims, transaction
from sysenv_ns.environment.store import Environment, Ephemeral, Store, timestamp
from sysenv_ns.errors import NeedsRoot, SysenvError, reason
from sysenv_ns.files import removal, sizes
from sysenv_ns.files.locks import file_lock
from sysenv_ns.files.reader import is_directory
from sysenv_ns.host import standins
from sysenv_ns.kernel import idmap, namespace, remedies
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import base, builder
from sysenv_ns.mapped import client
from sysenv_ns.packages import origin
from sysenv_ns.packages.origin import Origin
from sysenv_ns.reporter import Ask, Reporter
from sysenv_ns.sudo import Caller


def create(
    store: Store, name: str, driver_name: str, id_map_kind: str, reporter: Reporter, throwaway: Ephemeral | None = None
) -> Environment:
    """Create an environment, and its base if there is none yet. Raises SysenvError; then nothing incomplete is left."""
    ephemeral.check_free(store, name, throwaway)
    store.prepare()
    transaction.empty_trash(store.trash)
    _offer_launcher(driver_name, reporter.ask)
    driver_name, id_map = choose.choose(store, driver_name, id_map_kind, reporter.ask)
    if id_map is not None and id_map.kind == "single" != id_map_kind and not store.all_names():
        _recommend_full(driver_name, reporter)
    path = store.envs / name
    environment = Environment(
        name, uuid.uuid4().hex, driver_name, id_map, timestamp(), path, store.path, ephemeral=throwaway
    )
    own = driver.of(environment)
    own.build_base(store, environment, config.host(store, environment), reporter)
    try:
        with transaction.staging(store.trash, f"{transaction.NEW}{name}", id_map) as staging:
            directory.make(staging)
            added = (standins.prompt(name), *own.upper_additions())
            key = origin.remember(store)
            origin.write(staging, Origin(key, key))
            builder.write(builder.additions(added), staging / directory.UPPER, id_map, many=False)
            store.add(environment, staging)
    except OSError as error:
        raise SysenvError(f"creating {name} failed: {reason(error)}", remedies.storage(error, store.path)) from error
    return environment


def _offer_launcher(driver_name: str, ask: Ask | None) -> None:
    """Where AppArmor forbids what all drivers but root need: let root change that, if the user says so; start again."""
    if ask is None or driver_name == "root" or not launcher.is_missing() or not sudo.available():
        return
    if ask(launcher.QUESTION.format(place=os.path.dirname(launcher.path_of(os.getuid())))):
        client.allow(os.getuid())
        launcher.go_on(sys.argv[1:])


def _recommend_full(driver_name: str, reporter: Reporter) -> None:
    """Before the first environment is created: how to have all users in it, if the driver allows that."""
    if "full" not in policy.DRIVERS[driver_name]:
        return
    try:
        idmap.detect_full()
    except SysenvError as error:
        reporter.notice(f"only root will exist inside ({error.message}); to have all users, first {error.hint}")


def remove_all(
    store: Store, names: Sequence[str], caller: Caller | None, removed: Callable[[str], None]
) -> NeedsRoot | None:
    """Delete these environments, and report each; returns what to say if root has to delete some of them.

    If one of them does not exist, none is deleted. Raises SysenvError.
    """
    for name in names:
        store.directory(name)
    left: dict[str, NeedsRoot] = {}
    for name in dict.fromkeys(names):
        try:
            remove(store, name, caller)
        except NeedsRoot as need:
            left[name] = need
        else:
            removed(name)
    if not left:
        return None
    first = next(iter(left.values()))
    first.arguments = ("remove", "--yes", "--", *left)
    return first


def remove(store: Store, name: str, caller: Caller | None = None) -> None:
    """Delete an environment, its links and all its files. Raises SysenvError when it runs."""
    path = store.directory(name)
    try:
        environment = store.load(name)
    except SysenvError:
        if not os.path.lexists(path):  # another command has removed it
            raise store.unknown(name) from None
        if path.lstat().st_uid == 0 != os.geteuid():
            raise NeedsRoot(f"{path} belongs to root", "run sysenv-ns with sudo") from None
        with running.scan() as seen:
            processes = seen.of_damaged(path)
        running.refuse(name, processes, f"end its processes: kill {' '.join(str(p.pid) for p in processes)}")
        if os.access(path / directory.LINKS, os.R_OK):
            _remove_links(path, caller)
        _remove_shims(store, name)
        _remove_damaged(store, path)
        return
    environment.require_root()
    with store.lock(name):
        processes = running.processes(environment)
        running.refuse(name, processes, f"leave it, or end its processes: sysenv-ns stop {name}")
        _remove_links(path, caller)
        _remove_shims(store, name)
        trashed = _to_trash(store, path, environment.id_map)
    _delete_with_all_it_needed(store, trashed, environment.id_map)


def _delete_with_all_it_needed(store: Store, trashed: Path, id_map: IdMap | None) -> None:
    """Delete a former environment, and what no other one needs. Raises SysenvError after everything else is done."""
    origin.collect(store)
    try:
        layers.collect(store)
    except OSError as error:
        raise SysenvError(
            f"{error.filename} cannot be deleted: {reason(error)}", "delete it by hand as root"
        ) from error
    finally:
        transaction.empty_trash(store.trash)
        _delete(trashed, id_map)


def _remove_shims(store: Store, name: str) -> None:
    try:
        shims.remove(store, name)
    except OSError as error:
        raise SysenvError(f"{error.filename} cannot be deleted: {reason(error)}", "delete it by hand") from error


def _remove_links(path: Path, caller: Caller | None) -> None:
    """While the environment still has its record: after its removal, nothing else knows them."""
    try:
        links.remove(path, None, links.acting_for(caller))
    except OSError as error:
        raise SysenvError(f"{error.filename} cannot be deleted: {reason(error)}", "delete it by hand") from error


def remove_unused_bases(store: Store) -> dict[str, int]:
    """Delete the bases that no environment needs; returns their names and sizes (bytes). Raises SysenvError."""
    used = set()
    for name in store.names():
        # A damaged one could need any of them: the error says to remove it first.
        needed = driver.base_of(store, store.load(name))
        used |= {needed.path} if needed is not None else set()
    transaction.empty_trash(store.trash)
    origin.collect(store)
    removed = {}
    for path in sorted({path for path in store.base.glob("*") if is_directory(path)} - used):
        id_map = base.id_map_of(path)
        with file_lock(path / directory.LOCK):
            trashed = _to_trash(store, path, id_map)
        removed[path.name] = _size(trashed, id_map)
        _delete(trashed, id_map)
    return removed


def _remove_damaged(store: Store, path: Path) -> None:
    """The description cannot give the id map of its files, but their owner does. Raises SysenvError."""
    id_map = idmap.of_files([path / directory.UPPER, path / directory.WORK / directory.WORK])
    _delete_with_all_it_needed(store, _to_trash(store, path, id_map), id_map)


def _to_trash(store: Store, path: Path, id_map: IdMap | None) -> Path:
    # While it still has its name: without the id map its files could only be lost, not deleted.
    namespace.run_inside(id_map, lambda: None, "sysenv-ns-rm")
    try:
        return transaction.move_to_trash(path, store.trash)
    except OSError as error:
        raise SysenvError(f"{path} cannot be moved away: {reason(error)}") from error


def _size(path: Path, id_map: IdMap | None) -> int:
    return namespace.call_inside(id_map, lambda: sizes.on_disk(path), int, "sysenv-ns-size")


def _delete(path: Path, id_map: IdMap | None) -> None:
    try:
        removal.remove_tree(path, id_map)
    except OSError as error:
        raise SysenvError(f"{path} cannot be deleted: {reason(error)}", "delete it by hand as root") from error
