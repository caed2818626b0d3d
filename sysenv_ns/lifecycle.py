"""Removes, restores and deletes environments, and deletes bases that are no longer needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sysenv_ns import remains
from sysenv_ns.drivers import driver
from sysenv_ns.environment import directory, ephemeral, layers, links, removed, running, shims, transaction, uppers
from sysenv_ns.environment.description import Environment, read_description
from sysenv_ns.environment.links import Link
from sysenv_ns.environment.removed import Removed
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import NameTaken, NeedsRoot, SysenvError, reason
from sysenv_ns.files import removal, sizes
from sysenv_ns.files.locks import file_lock
from sysenv_ns.files.reader import is_directory
from sysenv_ns.kernel import idmap, namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import base
from sysenv_ns.packages import origin
from sysenv_ns.sudo import Caller


@dataclass(frozen=True)
class Leaving:
    """A removed environment: where it can be restored from, if it can, and the links that it had."""

    name: str
    kept: Removed | None
    links: tuple[Link, ...]


def remove_all(
    store: Store, names: Sequence[str], caller: Caller | None, hours: int, told: Callable[[Leaving], None]
) -> dict[str, NeedsRoot]:
    """Remove these environments, and report each; returns those that root has to remove, each with what to say.

    If one of them does not exist, none is removed. Raises SysenvError.
    """
    for name in names:
        store.directory(name)
    left: dict[str, NeedsRoot] = {}
    for name in dict.fromkeys(names):
        if ephemeral.is_name(name) and not store.exists(name):
            continue  # it had ended, and went with one before it, or by another command
        try:
            gone = remove(store, name, caller, hours)
        except NeedsRoot as need:
            left[name] = need
        else:
            told(gone)
    return left


def remove(store: Store, name: str, caller: Caller | None = None, hours: int = 0) -> Leaving:
    """Remove an environment and its links; it can be restored for so many hours, or its files are deleted.

    They always are when it is damaged, or a throwaway one. Raises SysenvError when it runs.
    """
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
        gone = _remove_links(path, caller) if os.access(path / directory.LINKS, os.R_OK) else ()
        _remove_shims(store, name)
        _remove_damaged(store, path)
        return Leaving(name, None, gone)
    environment.require_root()
    kept = hours > 0 and environment.ephemeral is None
    with store.lock(name):
        processes = running.processes(environment)
        running.refuse(name, processes, f"leave it, or end its processes: sysenv-ns stop {name}")
        gone = _remove_links(path, caller, forget=not kept)
        _remove_shims(store, name)
        moved = _keep(store, environment, hours) if kept else _to_trash(store, path, environment.id_map)
    if isinstance(moved, Removed):
        tidy(store)
        with contextlib.suppress(OSError, SysenvError):  # what others have left says nothing about this one
            _delete_with_all_they_needed(store, [])
        return Leaving(name, moved, gone)
    _delete_with_all_they_needed(store, [(moved, environment.id_map)])
    return Leaving(name, None, gone)


def _keep(store: Store, environment: Environment, hours: int) -> Removed:
    """Move it whole to where it can be restored from, at once."""
    _require_map(environment.id_map)
    found = removed.new(store.removed, environment.name, hours)
    try:
        if not is_directory(store.removed):  # the store is of an earlier version
            store.removed.mkdir(mode=0o755)
        with uppers.locked(store):  # nobody is looking for what environments need
            transaction.publish(environment.path, found.path)
    except OSError as error:
        raise SysenvError(
            f"{environment.name} cannot be kept for --undo: {reason(error)}",
            f"delete it for good: sysenv-ns remove --purge {environment.name}",
        ) from error
    return found


def restore(store: Store, name: str | None) -> Environment:
    """Let a removed environment be there again: the last one, or the last one of that name. Raises SysenvError."""
    known = store.all_removed()
    found = removed.last(known, name)
    if found is None:
        others = ", ".join(dict.fromkeys(one.name for one in known))
        hint = f"these can be: {others}" if others else "what was removed is deleted after a while, or by --purge"
        raise SysenvError(f"there is no removed environment{f' {name}' if name else ''} to restore", hint)
    if store.exists(found.name):
        raise _taken(found.name)
    if found.path.parent != store.removed:
        need = NeedsRoot(f"{found.name} has the driver root", "run sysenv-ns with sudo")
        need.arguments = ("remove", "--undo", "--", found.name)
        raise need
    try:
        with uppers.locked(store):
            store.load_from(found.path, found.name, store)  # what is damaged takes no name
            transaction.publish(found.path, store.envs / found.name)
    except FileExistsError:
        raise _taken(found.name) from None
    except FileNotFoundError:
        raise SysenvError(f"somebody else restored or deleted {found.name} just now", "see: sysenv-ns list") from None
    except OSError as error:
        raise SysenvError(f"{found.name} cannot be restored: {reason(error)}") from error
    return store.load(found.name)


def _taken(name: str) -> NameTaken:
    return NameTaken(
        f"there is another environment {name} now", f"give that one another name first: sysenv-ns rename {name} OTHER"
    )


def delete_removed(store: Store, found: Iterable[Removed]) -> list[Removed]:
    """Delete these removed environments for good, except those that root keeps; returns them. Raises SysenvError."""
    doomed = []
    trashed = []
    for one in found:
        if one.path.parent != store.removed:
            continue
        id_map = _id_map(store, one)
        try:
            trashed.append((_to_trash(store, one.path, id_map), id_map))
        except SysenvError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # somebody else has restored or deleted it meanwhile
                raise
        else:
            doomed.append(one)
    if trashed:
        _delete_with_all_they_needed(store, trashed)
    return doomed


def _id_map(store: Store, found: Removed) -> IdMap | None:
    try:
        return read_description(found.path, found.name, store.path).id_map
    except SysenvError:
        return _id_map_of_files(found.path)


def tidy(store: Store) -> None:
    """Delete what interrupted commands have left and what nobody has wanted back in time, as far as this user can."""
    for found in (found for found in removed.all_of(store.removed) if found.is_due):
        with contextlib.suppress(OSError, SysenvError):
            delete_removed(store, [found])
    transaction.empty_trash(store.trash)


def _delete_with_all_they_needed(store: Store, trashed: Sequence[tuple[Path, IdMap | None]]) -> None:
    """Delete former environments, and what no other one needs. Raises SysenvError after everything else is done."""
    remains.remove(store)  # these need nothing any more
    origin.collect(store)
    try:
        layers.collect(store)
    except OSError as error:
        raise SysenvError(
            f"{error.filename} cannot be deleted: {reason(error)}", "delete it by hand as root"
        ) from error
    finally:
        transaction.empty_trash(store.trash)
        for path, id_map in trashed:
            _delete(path, id_map)


def _remove_shims(store: Store, name: str) -> None:
    try:
        shims.remove(store, name)
    except OSError as error:
        raise SysenvError(f"{error.filename} cannot be deleted: {reason(error)}", "delete it by hand") from error


def _remove_links(path: Path, caller: Caller | None, forget: bool = True) -> tuple[Link, ...]:
    """While the environment still has its record: after its removal, nothing else knows them."""
    try:
        return links.remove(path, None, links.acting_for(caller), forget)
    except OSError as error:
        raise SysenvError(f"{error.filename} cannot be deleted: {reason(error)}", "delete it by hand") from error


def remove_unused_bases(store: Store) -> dict[str, int]:
    """Delete the bases that no environment needs; returns their names and sizes (bytes). Raises SysenvError."""
    used = set()
    for name in store.names():
        # A damaged one could need any of them: the error says to remove it first.
        needed = driver.base_of(store, store.load(name))
        used |= {needed.path} if needed is not None else set()
    tidy(store)
    origin.collect(store)
    freed = {}
    for path in sorted({path for path in store.base.glob("*") if is_directory(path)} - used):
        id_map = base.id_map_of(path)
        with file_lock(path / directory.LOCK):
            trashed = _to_trash(store, path, id_map)
        freed[path.name] = namespace.call_inside(id_map, partial(sizes.on_disk, trashed), int, "sysenv-ns-size")
        _delete(trashed, id_map)
    return freed


def _remove_damaged(store: Store, path: Path) -> None:
    """The description cannot give the id map of its files, but their owner does. Raises SysenvError."""
    id_map = _id_map_of_files(path)
    _delete_with_all_they_needed(store, [(_to_trash(store, path, id_map), id_map)])


def _id_map_of_files(path: Path) -> IdMap | None:
    return idmap.of_files([path / directory.UPPER, path / directory.WORK / directory.WORK])


def _require_map(id_map: IdMap | None) -> None:
    """While it still has its name: without the id map its files could only be lost, not deleted."""
    namespace.run_inside(id_map, lambda: None, "sysenv-ns-rm")


def _to_trash(store: Store, path: Path, id_map: IdMap | None) -> Path:
    _require_map(id_map)
    try:
        return transaction.move_to_trash(path, store.trash)
    except OSError as error:
        raise SysenvError(f"{path} cannot be moved away: {reason(error)}") from error


def _delete(path: Path, id_map: IdMap | None) -> None:
    try:
        removal.remove_tree(path, id_map)
    except OSError as error:
        raise SysenvError(f"{path} cannot be deleted: {reason(error)}", "delete it by hand as root") from error
