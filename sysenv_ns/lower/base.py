"""Keeps the base layers: their places and locks, when they are renewed (upkeep.py says how) and what is deleted.

    base/KEY/                 KEY: driver, id map and wishes of the policy files; environments with the same share it
        lock
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
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns import running
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.host import layout, standins
from sysenv_ns.host.layout import Host, LayerPlan
from sysenv_ns.host.records import Addition, Data
from sysenv_ns.kernel import remedies, removal
from sysenv_ns.lower import books, building, upkeep
from sysenv_ns.lower.upkeep import Job, Progress, Refreshed
from sysenv_ns.store import Environment, Store, file_lock, sync_directory

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

# The paths that a user wants bound, and those overlaid.
Wishes = tuple[Collection[str], Collection[str]]
ProgressBar = Callable[[], contextlib.AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Layer:
    """A finished layer: its directory and the data-only lowers that its stubs need, in the order of search."""

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

    def __init__(self, store: Store, environment: Environment, wishes: Wishes) -> None:
        self._store = store
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
    def layers(self, host: Host, data: Data, progress: ProgressBar) -> Iterator[tuple[Layer, ...]]:
        """The layers of this host, uppermost first, which stay what they are inside the context.

        What is missing or stale is built before, and only then shows progress. Raises SysenvError.
        """
        plans, added = layout.layers(host), self._additions(host)
        with self._lock() as lock:
            watching = True
            while not self._holds(plans, added, watching):
                self._update(lock, plans, added, data, progress, thorough=False)
                fcntl.flock(lock, fcntl.LOCK_SH)
                # Not compared with the host again: that may change all the time. But another process may have come
                # between, as the lock was free.
                watching = False
            found = [Layer(self._own(added))]
            for plan in plans:
                if (layer := self._current(plan)) is not None:
                    found.append(Layer(layer, books.roots(plan, layer)))
            yield tuple(found)

    def refresh(self, host: Host, data: Data, progress: ProgressBar) -> Refreshed:
        """Compare every file with the host, and make anew what differs. Raises SysenvError."""
        with self._lock() as lock:
            return self._update(lock, layout.layers(host), self._additions(host), data, progress, thorough=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int]:
        """The lock, held shared at first."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SysenvError(
                f"the base {self.path} cannot be made: {reason(error)}", remedies.storage(error, self.path)
            ) from error
        with file_lock(self.path / "lock", shared=True) as descriptor:
            yield descriptor

    def _holds(self, plans: tuple[LayerPlan, ...], added: tuple[Addition, ...], watching: bool) -> bool:
        """Whether all layers are there and, when `watching`, nothing has changed on the host."""
        if not self._own(added).exists():
            return False
        for plan in plans:
            layer = self._current(plan)
            if layer is None or not all(books.holds(layer, tree, watching) for tree in plan.trees):
                return False
            if books.names(layer) != {books.slug(tree) for tree in plan.trees}:
                return False
        return True

    def _update(
        self,
        lock: int,
        plans: tuple[LayerPlan, ...],
        added: tuple[Addition, ...],
        data: Data,
        progress: ProgressBar,
        thorough: bool,
    ) -> Refreshed:
        """Make what is missing or stale; takes the lock exclusively and lets go of it. Raises SysenvError."""
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            # Whoever had the lock meanwhile may have done it.
            if thorough or not self._holds(plans, added, watching=True):
                self._make_own(added)
                return self._renew(self._jobs(plans, thorough), data, progress)
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

    def _renew(self, jobs: list[Job], data: Data, progress: ProgressBar) -> Refreshed:
        assert self._id_map is not None
        jobs = [job for job in jobs if job.works or job.obsolete]
        mounted = self._mounted()
        refreshed = Refreshed()
        with progress() as report:
            done, total = 0, max(sum(job.weight for job in jobs), 1)
            for job in jobs:
                share = upkeep.part(report, done / total, job.weight / total)
                with self._staging() as staging:
                    target = self._target(job, mounted)
                    refreshed += upkeep.renew(job, target, staging, data, self._id_map, share)
                    sync_directory(self.path)
                done += job.weight
        return refreshed

    def _target(self, job: Job, mounted: set[str]) -> Path:
        """The layer that a job is carried out in: the current one, or one that is to be made."""
        whole = len(job.plan.trees) == 1 and any(work.again is None for work in job.works)
        if job.layer is not None and not (job.differs and (whole or job.layer.name in mounted)):
            return job.layer
        return self.path / f"{job.plan.name}-{max(self._numbers(job.plan), default=0) + 1}"

    def _additions(self, host: Host) -> tuple[Addition, ...]:
        single = self._id_map is not None and self._id_map.kind == "single"
        return standins.host_additions(single, layout.hosts_own(host))

    def _own(self, added: tuple[Addition, ...]) -> Path:
        """The layer with the environment's own additions."""
        return self.path / f"own-{_fingerprint(added)}"

    def _make_own(self, added: tuple[Addition, ...]) -> None:
        path = self._own(added)
        if not path.exists():
            with self._staging() as staging:
                building.write(building.additions(added), staging / "tree", self._id_map, many=False)
                os.rename(staging, path)
                sync_directory(self.path)

    def _current(self, plan: LayerPlan) -> Path | None:
        numbers = self._numbers(plan)
        return self.path / f"{plan.name}-{max(numbers)}" if numbers else None

    def _numbers(self, plan: LayerPlan) -> list[int]:
        prefix = f"{plan.name}-"
        suffixes = [name[len(prefix) :] for name in os.listdir(self.path) if name.startswith(prefix)]
        return [int(suffix) for suffix in suffixes if suffix.isdecimal()]

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        """A directory to build in, beside the layers; whatever is left of it is put away later."""
        staging = self.path / f"new-{os.getpid()}-{os.urandom(4).hex()}"
        (staging / "tree").mkdir(parents=True, mode=0o755)
        yield staging

    def _mounted(self) -> set[str]:
        """The names of the layers that running environments have mounted."""
        mounted: set[str] = set()
        found = running.processes(self._store)
        for name in self._store.names():
            state = running.read_state(self._store.envs / name)
            try:
                running_ = self._store.load(name).source in found
            except SysenvError:  # damaged: nobody can tell whether it runs
                running_ = state is not None
            if running_:
                # Without a state file it may be any of them.
                mounted |= set(os.listdir(self.path)) if state is None else set(state.layers)
        return mounted

    def _put_away(self, plans: tuple[LayerPlan, ...]) -> list[Path]:
        """Move to the trash what neither is current nor mounted, and what builds have left; returns where it is now."""
        current = {layer.name for plan in plans if (layer := self._current(plan)) is not None}
        kept = current | self._mounted() | {"lock"}
        moved = []
        for name in os.listdir(self.path):
            if name in kept or name.startswith("own-"):
                continue
            try:
                moved.append(removal.move_to_trash(self.path / name, self._store.trash))
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                removal.remove_tree(self.path / name, self._id_map)  # a disk that is full has none for a rename
        return moved


def _fingerprint(value: object) -> str:
    """A name for a value. Not hashlib: its import takes longer than all else that a start does here."""
    return f"{zlib.crc32(repr(value).encode()):08x}"


def _build_error(error: OSError, store: Path) -> SysenvError:
    return SysenvError(f"building the base failed: {located(error)}", remedies.storage(error, store))
