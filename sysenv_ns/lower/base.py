"""Manages the base layers: paths and locks, when they are renewed (upkeep.py knows how), and what is deleted.

    base/KEY/                 KEY: driver, id map and wishes of the policy files; environments with the same share it
        lock
        own-record.json         the id map; earlier versions have none, and delete what does not begin with "own-"
        own-DIGEST/           what every environment has on top of the host's files (standins.additions)
        top-4/ etc-7/ stubs-3/   one directory per layer of layout.layers; a newer number replaces an older one
            tree/             the layer, shaped like /
            usr.json, usr.index.json    for each of its trees, see books.py

The lock is held shared by whoever compares the layers with the host and mounts them, and exclusively by whoever changes
them. A layer is never changed while an environment that has it mounted runs: then a new one is made, and the old one
deleted later. Deleting takes minutes on some disks: nobody holds the lock meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from sysenv_ns import documents
from sysenv_ns.environment import running, transaction
from sysenv_ns.environment.directory import LOCK
from sysenv_ns.environment.state import read_state
from sysenv_ns.environment.store import Environment, Store
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.files import reader, removal
from sysenv_ns.files.locks import file_lock
from sysenv_ns.files.replacement import write_json
from sysenv_ns.host import layout, refresh, standins
from sysenv_ns.host.layout import Host, LayerPlan
from sysenv_ns.host.records import Addition, Data
from sysenv_ns.kernel import idmap, remedies
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import books, builder, upkeep
from sysenv_ns.lower.upkeep import Job, Refreshed
from sysenv_ns.records import asdict, dataclass
from sysenv_ns.reporter import Reporter

_RECORD = "own-record.json"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

# The paths that a user wants bound, and those overlaid.
Wishes = tuple[Collection[str], Collection[str]]


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
            key += [environment.id_map.kind, _fingerprint(environment.id_map)]
        if any(wishes):
            # Otherwise two environments would have the same trees mirrored anew in turns.
            key.append(_fingerprint(tuple(sorted(paths) for paths in wishes)))
        self.path = store.base / "-".join(key)

    @contextlib.contextmanager
    def layers(self, host: Host, reporter: Reporter) -> Iterator[tuple[BaseLayer, ...]]:
        """The layers of this host, uppermost first, which do not change within the context.

        Missing or stale ones are built first, with progress; not while a package manager of the host
        is working. Raises SysenvError.
        """
        plans, added = layout.layers(host), additions(self._id_map, host)
        with self._lock() as lock:
            watching = True
            while (found := self._found(plans, added, watching)) is None:
                fcntl.flock(lock, fcntl.LOCK_UN)
                _await_package_managers(reporter)
                signs = refresh.package_signs()
                self._update(lock, plans, added, reporter, thorough=False)
                fcntl.flock(lock, fcntl.LOCK_SH)
                # Not compared with the host again, which may change all the time, unless packages have been: half of
                # that may have been mirrored. And another process may have come between, as the lock was free.
                watching = refresh.package_signs() != signs
            yield found

    def refresh(self, host: Host, reporter: Reporter) -> Refreshed:
        """Compare every file with the host, and mirror again what differs. Raises SysenvError."""
        _await_package_managers(reporter)
        with self._lock() as lock:
            return self._update(lock, layout.layers(host), additions(self._id_map, host), reporter, thorough=True)

    def holds(self, host: Host) -> bool:
        """Whether all layers exist and match this host: a start checks this first."""
        with self._lock():
            return self._found(layout.layers(host), additions(self._id_map, host), watching=True) is not None

    @contextlib.contextmanager
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
        self, plans: tuple[LayerPlan, ...], added: tuple[Addition, ...], watching: bool
    ) -> tuple[BaseLayer, ...] | None:
        """The layers; None unless all exist and, when `watching`, nothing has changed on the host."""
        found = [BaseLayer(self._own(added))]
        if not found[0].path.exists():
            return None
        for plan in plans:
            layer = self._current(plan)
            if layer is None or books.names(layer) != {books.slug(tree) for tree in plan.trees}:
                return None
            roots: list[str] = []
            for tree in plan.trees:
                of_tree = books.roots(layer, tree, watching)
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
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            # Whoever had the lock meanwhile may have done it.
            if thorough or self._found(plans, added, watching=True) is None:
                self._make_own(added)
                if self._id_map is not None and not (self.path / _RECORD).exists():
                    write_json(self.path / _RECORD, {"version": 1, "id_map": asdict(self._id_map)})
                return self._renew(self._jobs(plans, thorough), reporter)
            return Refreshed()
        except OSError as error:
            raise _build_error(error, self._store.path) from error
        finally:
            doomed = self._put_away(plans)
            fcntl.flock(lock, fcntl.LOCK_UN)
            for path in doomed:
                removal.remove_tree(path, self._id_map)

    def _jobs(self, plans: tuple[LayerPlan, ...], thorough: bool) -> list[Job]:
        jobs = [upkeep.examine(plan, self._current(plan), thorough) for plan in plans]
        if any(job.differs for job in jobs):
            # The uppermost layer holds the times and modes of the directories in /.
            top = next(number for number, plan in enumerate(plans) if plan.trees[0].path == "/")
            jobs[top] = upkeep.examine(plans[top], self._current(plans[top]), thorough, also="/")
        return jobs

    def _renew(self, jobs: list[Job], reporter: Reporter) -> Refreshed:
        assert self._id_map is not None
        jobs = [job for job in jobs if job.works or job.obsolete]
        mounted = self._mounted()
        refreshed, data = Refreshed(), self._data()
        with reporter.progress() as report:
            done, total = 0, max(sum(job.weight for job in jobs), 1)
            for job in jobs:
                share = upkeep.part(report, done / total, job.weight / total)
                with self._staging() as staging:
                    target = self._target(job, mounted)
                    refreshed += upkeep.renew(job, target, staging, data, self._id_map, share)
                done += job.weight
        return refreshed

    def _target(self, job: Job, mounted: set[str]) -> Path:
        """The layer in which a job is carried out: the current one, or a new one."""
        whole = len(job.plan.trees) == 1 and any(work.again is None for work in job.works)
        if job.layer is not None and not (job.differs and (whole or job.layer.name in mounted)):
            return job.layer
        return self.path / f"{job.plan.name}-{max(self._numbers(job.plan), default=0) + 1}"

    def _own(self, added: tuple[Addition, ...]) -> Path:
        """The layer with the environment's own additions."""
        return self.path / f"own-{_fingerprint(added)}"

    def _make_own(self, added: tuple[Addition, ...]) -> None:
        path = self._own(added)
        if not path.exists():
            with self._staging() as staging:
                builder.write(builder.additions(added), staging / "tree", self._id_map, many=False)
                transaction.publish(staging, path)

    def _current(self, plan: LayerPlan) -> Path | None:
        numbers = self._numbers(plan)
        return self.path / f"{plan.name}-{max(numbers)}" if numbers else None

    def _numbers(self, plan: LayerPlan) -> list[int]:
        prefix = f"{plan.name}-"
        suffixes = [name[len(prefix) :] for name in os.listdir(self.path) if name.startswith(prefix)]
        return [int(suffix) for suffix in suffixes if suffix.isdecimal()]

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        """A directory to build in, beside the layers; remains of it are moved away later."""
        staging = self.path / f"new-{os.getpid()}-{os.urandom(4).hex()}"
        (staging / "tree").mkdir(parents=True, mode=0o755)
        yield staging

    def _mounted(self) -> set[str]:
        """The names of the layers that running environments have mounted."""
        mounted: set[str] = set()
        with running.scan() as seen:
            for name in self._store.names():
                state = read_state(self._store.envs / name)
                try:
                    is_running = bool(seen.of(self._store.load(name)))
                except SysenvError:  # damaged: nobody can tell whether it runs
                    is_running = state is not None
                if is_running:
                    # Without a state file it may be any of them.
                    mounted |= set(os.listdir(self.path)) if state is None else set(state.layers)
        return mounted

    def _put_away(self, plans: tuple[LayerPlan, ...]) -> list[Path]:
        """Move layers that are neither current nor mounted, and remains of builds, to the trash; their paths there."""
        current = {layer.name for plan in plans if (layer := self._current(plan)) is not None}
        kept = current | self._mounted() | {LOCK}
        moved = []
        for name in os.listdir(self.path):
            if name in kept or name.startswith("own-"):
                continue
            try:
                moved.append(transaction.move_to_trash(self.path / name, self._store.trash))
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                removal.remove_tree(self.path / name, self._id_map)  # a disk that is full has none for a rename
        return moved


def id_map_of(path: Path) -> IdMap | None:
    """The id map that the base in this directory was made with. Raises SysenvError, OSError."""
    try:
        data = documents.mapping(reader.read_json(path / _RECORD), "it")
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


def _fingerprint(value: object) -> str:
    """A name for a value. Not hashlib: its import takes longer than everything else that a start does here."""
    return f"{zlib.crc32(repr(value).encode()):08x}"


def _build_error(error: OSError, store: Path) -> SysenvError:
    return SysenvError(f"building the base failed: {located(error)}", remedies.storage(error, store))
