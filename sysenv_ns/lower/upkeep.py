"""Brings one layer in step with the host, with as little work as the change allows; locks and deletes nothing.

A layer that nobody has mounted is changed in place. A mounted one must not change: a new generation of it is made,
with copies of all unchanged files (of stubs, not of their data): that takes less time than to read
them from the host. Hard links would show in `stat`. A small layer on top of the old one,
with only the changes, is not possible: it would have stubs above stubs (see policy.COPIED_LAYERS).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from sysenv_ns import policy
from sysenv_ns.environment import transaction
from sysenv_ns.files import sizes
from sysenv_ns.host import layout, refresh
from sysenv_ns.host.base_files import ATTRIBUTES, Data
from sysenv_ns.host.index import Again, Index, holder
from sysenv_ns.host.layout import LayerPlan, Tree
from sysenv_ns.host.signs import Signature, of_packages
from sysenv_ns.host.walk import Batch, Walk
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.lower import books, builder, mirror
from sysenv_ns.records import dataclass, replace
from sysenv_ns.reporter import Progress


@dataclass(frozen=True)
class Refreshed:
    """How much was mirrored: new and changed directories, and the files in them."""

    files: int = 0
    directories: int = 0

    def __add__(self, other: Refreshed) -> Refreshed:
        return Refreshed(self.files + other.files, self.directories + other.directories)


@dataclass(frozen=True)
class Work:
    """A tree that is out of date, and which part of it; None means all."""

    tree: Tree
    again: Again | None
    found: int = 0  # the number of directories that have changed

    @property
    def weight(self) -> int:
        """Its share of the total time."""
        return self.tree.policy.weight if self.again is None else 1


@dataclass(frozen=True)
class Job:
    """A layer, the current one or None, and everything to do in it."""

    plan: LayerPlan
    layer: Path | None
    works: tuple[Work, ...]  # outer trees before inner ones
    obsolete: tuple[str, ...]  # paths of trees that are not planned any more
    surplus: AbstractSet[str]
    signs: dict[str, Signature | None]

    @property
    def differs(self) -> bool:
        """Whether the layer itself has to change, not only its books."""
        return bool(self.obsolete) or any(work.again is None or work.again.changed for work in self.works)

    @property
    def weight(self) -> int:
        """Its share of the total time."""
        return sum(work.weight for work in self.works)

    @property
    def dropped(self) -> tuple[str, ...]:
        """The paths that are built completely, or not at all: only outermost ones."""
        return layout.outermost([*(work.tree.path for work in self.works if work.again is None), *self.obsolete])


def examine(plan: LayerPlan, layer: Path | None, thorough: bool, also: str = "") -> Job:
    """Find out what is out of date; `thorough` checks every file, `also` names a tree whose top is mirrored again."""
    surplus = surplus_roots(plan.trees, policy.DATA_ROOTS)
    signs = of_packages()  # before anything is looked at
    anew = Job(plan, None, tuple(Work(tree, None) for tree in plan.trees), (), surplus, signs)
    if layer is None:
        return anew
    planned = {books.slug(tree) for tree in plan.trees}
    described = books.described(layer)
    if not books.names(layer) <= planned | described.keys():  # of what a damaged one is, nobody knows
        return anew
    obsolete = tuple(path for name, path in described.items() if name not in planned)
    first: str | None = None
    works: list[Work] = []
    for tree in plan.trees:
        own = books.read(layer, f"{books.slug(tree)}.json").get("roots", ())
        # Stubs that are not in the first data-only lower depend on what those before theirs hold.
        exposed = bool(works) and any(root != first for root in own)
        made_anew = [*obsolete, *(work.tree.path for work in works if work.again is None)]
        if any(is_below(tree.path, path) for path in made_anew):
            works.append(Work(tree, None))
        elif thorough or exposed or tree.path == also or not books.holds(layer, tree):
            works.append(_work(layer, tree, thorough, tree.path == also))
        elif own and first is None:
            first = own[0]
    if surplus and any(work.again is None or work.again.changed for work in works):
        works = list(anew.works)
    return Job(plan, layer, tuple(works), obsolete, surplus, signs)


def surplus_roots(trees: Sequence[Tree], room: int) -> frozenset[str]:
    """Of the data-only lowers that host mounts split these trees into, the smallest ones beyond the first `room`."""
    own = {tree.path for tree in trees}
    roots = {
        path
        for tree in trees
        for directory in tree.blocked
        if directory == tree.path or is_below(directory, tree.path)
        for path in _subdirectories(directory)
        if path not in tree.blocked and (path in own or path not in tree.stops)
    }
    if len(roots) <= room:  # nearly always: measuring takes a while
        return frozenset()
    return frozenset(sorted(roots, key=sizes.of_contents, reverse=True)[max(room, 0) :])


def _subdirectories(directory: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _work(layer: Path, tree: Tree, thorough: bool, also: bool) -> Work:
    earlier = books.load(layer, tree)
    again = None if earlier is None else refresh.look(tree, earlier, thorough)
    if again is None:
        return Work(tree, None)
    return Work(tree, replace(again, changed=again.changed | {tree.path}) if also else again, len(again.changed))


def renew(job: Job, target: Path, staging: Path, data: Data, id_map: IdMap, progress: Progress) -> Refreshed:
    """Carry out a job: in the layer itself if that is `target`, else in a new one that is built in `staging`.

    Raises OSError, SysenvError.
    """
    done: list[tuple[Work, Index]] = []
    files = 0

    def batches() -> Iterator[Batch]:
        nonlocal files
        for batch in _batches(job, data, id_map, progress, done):
            files += sum(entry[0] != ATTRIBUTES for entry in batch.entries)
            yield batch

    if not job.differs:
        for _ in batches():
            pass
        _describe(target, job, done)
    elif target == job.layer:
        _in_place(job, target, batches(), staging, id_map)
        _describe(target, job, done)
    else:
        _generation(job, batches(), staging, id_map, lambda: _describe(staging, job, done))
        transaction.publish(staging, target)
    new = sum(len(index.directories) - len(work.again.directories if work.again else ()) for work, index in done)
    return Refreshed(files, new + sum(work.found for work, _ in done))


def _batches(
    job: Job, data: Data, id_map: IdMap, progress: Progress, done: list[tuple[Work, Index]]
) -> Iterator[Batch]:
    """The batches to write; `done` gets the index of each tree."""
    works = {work.tree.path: work for work in job.works}
    searched: list[str] = []
    finished = 0
    for tree in job.plan.trees:
        if (work := works.get(tree.path)) is None:
            assert job.layer is not None
            searched += books.read(job.layer, f"{books.slug(tree)}.json").get("roots", ())
            continue
        index, again = Index(searched, job.surplus), work.again
        if again is not None:
            for root in again.earlier.roots:
                index.use(root)
            again = refresh.spread(again, tree, index) if job.differs else again
            refresh.carry(again, index)
        if tree.policy.watch_packages:
            index.watched |= job.signs
        share = part(progress, finished / job.weight, work.weight / job.weight)
        yield from Walk(tree, id_map, data, index, share, again).batches()
        if again is not None:
            used = {index.data_root(directory, tree) for directory in {holder(path) for path in index.stubs}}
            index.roots = [root for root in index.roots if root in used]
        searched += index.roots
        finished += work.weight
        done.append((work, index))


def _in_place(job: Job, layer: Path, batches: Iterator[Batch], staging: Path, id_map: IdMap) -> None:
    """Change a layer; its trees count as missing meanwhile, and what is removed is moved to `staging`."""
    gone = [name for name, path in books.described(layer).items() if path in job.obsolete]
    books.forget(layer, [books.slug(work.tree) for work in job.works])
    builder.write(
        batches, layer / "tree", id_map, many=True, before=lambda: _set_aside(job.dropped, layer / "tree", staging)
    )
    books.forget(layer, gone)  # not before: as long as it is described it is known to be there
    for name in gone:
        (layer / f"{name}.index.json").unlink(missing_ok=True)


def _set_aside(paths: Sequence[str], tree: Path, old: Path) -> None:
    for number, path in enumerate(paths):
        place = tree / path[1:]
        if os.path.lexists(place):
            os.rename(place, old / f"old-{number}")


def _generation(job: Job, batches: Iterator[Batch], staging: Path, id_map: IdMap, describe: Callable[[], None]) -> None:
    """Make a new layer with the unchanged files of the current one; `describe` is called when all has been read."""
    current = job.layer
    if current is None or (all(work.again is None for work in job.works) and len(job.works) == len(job.plan.trees)):
        builder.write_new(batches, staging / "tree", id_map, describe)
        return
    without = frozenset(path[1:] for path in job.dropped)
    source, target = f"{current}/tree", f"{staging}/tree"
    builder.write(batches, staging / "tree", id_map, many=True, before=lambda: mirror.clone(source, target, without))
    changed = {work.tree.path for work in job.works}
    for name, path in books.described(current).items():
        if path not in changed and path not in job.obsolete:
            for file in (f"{name}.json", f"{name}.index.json"):
                os.link(current / file, staging / file)
    describe()


def _describe(layer: Path, job: Job, done: Sequence[tuple[Work, Index]]) -> None:
    for work, index in done:
        books.write(layer, work.tree, index, job.surplus)


def part(report: Progress, begin: float, share: float) -> Progress:
    """A share of the progress that `report` shows."""
    return lambda fraction: report(begin + share * fraction)
