"""Manages the base layers: paths and locks, when they are renewed (upkeep.py knows how), and what is deleted.

    base/KEY/                 KEY: driver, id map and wishes of the policy files; environments with the same share it
        lock
        own-record.json         the id map; earlier versions have none, and delete what does not begin with "own-"
        own-DIGEST/           what every environment has on top of the host's files (standins.additions)
        top-4/ etc-7/ stubs-3/   one directory per layer of layout.layer_plans; a newer number replaces an older one
            tree/             the layer, shaped like /
            usr.json, usr.index.json    for each of its trees, see books.py

The lock is held shared by whoever compares the layers with the host and mounts them, and exclusively by whoever changes
them. A layer is never changed while an environment that has it mounted runs: then a new one is made, and the old one
deleted later. Deleting takes minutes on some disks: nobody holds the lock meanwhile.
"""

from __future__ import annotations

import fcntl

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.basics import contextmanager
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.directory import LOCK
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.files import reader
from sysenv_ns.files.locks import file_lock
from sysenv_ns.host import layout, signs, standins
from sysenv_ns.host.base_files import Addition, Data
from sysenv_ns.host.layout import Host, LayerPlan
from sysenv_ns.kernel import idmap, remedies
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import books, places
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass
from sysenv_ns.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import TypeAlias

    from sysenv_ns.lower.books import Seen
    from sysenv_ns.lower.upkeep import Refreshed


# The paths that a user wants bound, and those overlaid.
Wishes: TypeAlias = "tuple[Collection[str], Collection[str]]"


@dataclass(frozen=True)
class BaseLayer:
    """A finished layer: its directory, and the data-only lowers that its stubs need, in search order."""

    path: Path
    roots: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the base, for state files."""
        return self.path.name

    @property
    def tree(self) -> Path:
        """The lower directory."""
        return self.path / "tree"


class Base:
    """The layers of one KEY."""

    def __init__(self, store: Store, environment: Environment, wishes: Wishes, data: Callable[[], Data]) -> None:
        """`data` returns how the data of larger files gets into it, when it is built."""
        self._store = store
        self._data = data
        self._id_map = environment.id_map
        key = [environment.driver]
        if environment.id_map is not None:
            # A changed subordinate range makes another base: its files have other owners.
            key += [environment.id_map.kind, places.fingerprint(environment.id_map)]
        if any(wishes):
            # Otherwise two environments would have the same trees mirrored anew in turns.
            key.append(places.fingerprint(tuple(sorted(paths) for paths in wishes)))
        self.path = store.base / "-".join(key)

    @contextmanager
    def layers(self, host: Host, reporter: Reporter, seen: Seen | None = None) -> Iterator[tuple[BaseLayer, ...]]:
        """The layers of this host, uppermost first, which do not change within the context.

        Missing or stale ones are built first, with progress; not while a package manager of the host
        is working. What was just `seen` to be as on the host is not looked at again. Raises SysenvError.
        """
        plans, added = layout.layer_plans(host), additions(self._id_map, host)
        with self._lock() as lock:
            watching = True
            while (found := self._found(plans, added, watching, seen)) is None:
                fcntl.flock(lock, fcntl.LOCK_UN)
                _await_package_managers(reporter)
                before = signs.of_packages()
                self._update(lock, plans, added, reporter, thorough=False)
                fcntl.flock(lock, fcntl.LOCK_SH)
                # Not compared with the host again, which may change all the time, unless packages have been: half of
                # that may have been mirrored. And another process may have come between, as the lock was free.
                watching = signs.of_packages() != before
            yield found

    def refresh(self, host: Host, reporter: Reporter) -> Refreshed:
        """Compare every file with the host, and mirror again what differs. Raises SysenvError."""
        _await_package_managers(reporter)
        with self._lock() as lock:
            return self._update(lock, layout.layer_plans(host), additions(self._id_map, host), reporter, thorough=True)

    def holds(self, host: Host) -> bool:
        """Whether all layers exist and match this host: a start checks this first."""
        with self._lock():
            return self._found(layout.layer_plans(host), additions(self._id_map, host), watching=True) is not None

    @contextmanager
    def _lock(self) -> Iterator[int]:
        """The lock, held shared at first."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SysenvError(
                f"the base {self.path} cannot be made: {reason(error)}", remedies.storage(error, self.path)
            ) from error
        with file_lock(self.path / LOCK, shared=True) as descriptor:
            yield descriptor

    def _found(
        self, plans: tuple[LayerPlan, ...], added: tuple[Addition, ...], watching: bool, seen: Seen | None = None
    ) -> tuple[BaseLayer, ...] | None:
        """The layers; None unless all exist and, when `watching`, nothing has changed on the host."""
        found = [BaseLayer(places.own(self.path, added))]
        if not found[0].path.exists():
            return None
        for plan in plans:
            layer = places.current(self.path, plan)
            if layer is None or books.names(layer) != {books.slug(tree) for tree in plan.trees}:
                return None
            roots: list[str] = []
            for tree in plan.trees:
                of_tree = books.roots(layer, tree, watching, seen)
                if of_tree is None:
                    return None
                roots += of_tree
            found.append(BaseLayer(layer, tuple(dict.fromkeys(roots))))
        return tuple(found)

    def _update(
        self,
        lock: int,
        plans: tuple[LayerPlan, ...],
        added: tuple[Addition, ...],
        reporter: Reporter,
        thorough: bool,
    ) -> Refreshed:
        """Build what is missing or stale; takes the lock exclusively and releases it. Raises SysenvError."""
        from sysenv_ns.files import removal
        from sysenv_ns.lower import upkeep
        from sysenv_ns.lower.renewal import Renewal  # most starts find nothing to be mirrored

        renewal = Renewal(self._store, self.path, self._id_map, self._data, plans)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            # Whoever had the lock meanwhile may have done it.
            if thorough or self._found(plans, added, watching=True) is None:
                return renewal.run(added, reporter, thorough)
            return upkeep.Refreshed()
        except OSError as error:
            raise _build_error(error, self._store.path) from error
        finally:
            doomed = renewal.put_away()
            fcntl.flock(lock, fcntl.LOCK_UN)
            for path in doomed:
                removal.remove_tree(path, self._id_map)


def id_map_of(path: Path) -> IdMap | None:
    """The id map that the base in this directory was made with. Raises SysenvError, OSError."""
    try:
        data = documents.mapping(reader.read_json(path / places.RECORD), "it")
        id_map = documents.field(data, "id_map", idmap.from_data)
    except (FileNotFoundError, ValueError):  # of an earlier version, or damaged
        id_map = None
    return id_map or idmap.of_files(path.glob("*/tree"))


def additions(id_map: IdMap | None, host: Host) -> tuple[Addition, ...]:
    """The files that every environment has in addition to the host's, if no base layer holds them."""
    return standins.host_additions(id_map is not None and id_map.kind == "single", host.shown)


def _await_package_managers(reporter: Reporter) -> None:
    from sysenv_ns.host import package_locks  # most starts find nothing to be mirrored

    package_locks.wait(reporter.notice)


def _build_error(error: OSError, store: Path) -> SysenvError:
    return SysenvError(f"building the base failed: {located(error)}", remedies.storage(error, store))
