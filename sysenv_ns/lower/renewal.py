"""Changes a base, whose lock is held: builds what is missing or stale, and puts away what nobody needs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sysenv_ns.environment import running, transaction
from sysenv_ns.environment.directory import LOCK
from sysenv_ns.environment.state import read_state
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import removal
from sysenv_ns.files.replacement import write_json
from sysenv_ns.host.base_files import Addition, Data
from sysenv_ns.host.layout import LayerPlan
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import additions, builder, places, upkeep
from sysenv_ns.lower.upkeep import Job, Refreshed
from sysenv_ns.records import asdict
from sysenv_ns.reporter import Reporter

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Renewal:
    """One renewal of the base at `path`, for what is planned now."""

    def __init__(
        self, store: Store, path: Path, id_map: IdMap | None, data: Callable[[], Data], plans: tuple[LayerPlan, ...]
    ) -> None:
        self._store = store
        self.path = path
        self._id_map = id_map
        self._data = data
        self._plans = plans

    def run(self, added: tuple[Addition, ...], reporter: Reporter, thorough: bool) -> Refreshed:
        """Build what is missing or stale. Raises SysenvError, OSError."""
        self._make_own(added)
        if self._id_map is not None and not (self.path / places.RECORD).exists():
            write_json(self.path / places.RECORD, {"version": 1, "id_map": asdict(self._id_map)})
        return self._renew(self._jobs(thorough), reporter)

    def _jobs(self, thorough: bool) -> list[Job]:
        plans = self._plans
        jobs = [upkeep.examine(plan, places.current(self.path, plan), thorough) for plan in plans]
        if any(job.differs for job in jobs):
            # The uppermost layer holds the times and modes of the directories in /.
            top = next(number for number, plan in enumerate(plans) if plan.trees[0].path == "/")
            jobs[top] = upkeep.examine(plans[top], places.current(self.path, plans[top]), thorough, also="/")
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
        return self.path / f"{job.plan.name}-{max(places.numbers(self.path, job.plan), default=0) + 1}"

    def _make_own(self, added: tuple[Addition, ...]) -> None:
        path = places.own(self.path, added)
        if not path.exists():
            with self._staging() as staging:
                builder.write(additions.batches(added), staging / "tree", self._id_map, many=False)
                transaction.publish(staging, path)

    @contextmanager
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

    def put_away(self) -> list[Path]:
        """Move layers that are neither current nor mounted, and remains of builds, to the trash; their paths there."""
        current = {layer.name for plan in self._plans if (layer := places.current(self.path, plan)) is not None}
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
