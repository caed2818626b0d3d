"""Keeps the base layers in step with the host; survey.py reads, mirror.py writes.

    base/KEY/                 KEY: driver and id map; shared by all environments that have both in common
        lock
        own-DIGEST/           what every environment has on top of the host's files (standins.additions)
        top-4/ etc-7/ stubs-3/   one directory per layer of layout.layers; a newer number replaces an older one
            tree/             the layer, shaped like /
            usr.json          for each of its trees what it was made from, and what tells whether that has changed
            usr.index.json    the signature of the data behind every stub

A layer is never changed while an environment that has it mounted runs: then a new one is made, and the old one
deleted later.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysenv_ns import building, layout, namespace, policy, remedies, removal, running, standins, survey
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.idmap import IdMap
from sysenv_ns.layout import Host, LayerPlan, Tree
from sysenv_ns.mountinfo import is_below
from sysenv_ns.records import Batch, Data
from sysenv_ns.store import Store, file_lock, sync_directory, write_json

FORMAT_VERSION = 1

Progress = Callable[[float], None]
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
    """The layers of one KEY; everything but the constructor and `lock` needs the lock."""

    def __init__(self, store: Store, driver: str, id_map: IdMap | None) -> None:
        self._store = store
        self._id_map = id_map
        # A changed subordinate range makes another base: its files have other owners.
        self.path = store.base / (driver if id_map is None else f"{driver}-{id_map.kind}-{_fingerprint(id_map)}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One builds, the others wait; held until the layers are mounted, so that nobody deletes them before."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SysenvError(
                f"the base {self.path} cannot be made: {reason(error)}", remedies.storage(error, self.path)
            ) from error
        with file_lock(self.path / "lock"):
            yield

    def own_layer(self, host: Host) -> Layer:
        """The layer with the environment's own additions, made when it is missing."""
        single = self._id_map is not None and self._id_map.kind == "single"
        added = standins.host_additions(single, layout.hosts_own(host))
        path = self.path / f"own-{_fingerprint(added)}"
        if not path.exists():
            with self._staging() as staging:
                building.write(building.additions(added), staging / "tree", self._id_map, many=False)
                self._publish(staging, path)
        return Layer(path)

    def layers(self, host: Host, data: Data, progress: ProgressBar) -> tuple[Layer, ...]:
        """The current layers, uppermost first; what is missing or stale is built, and only then shows progress.

        Raises SysenvError.
        """
        plans = layout.layers(host)
        current = [self._current(plan) for plan in plans]
        stale = [_stale_trees(plan, layer) for plan, layer in zip(plans, current, strict=True)]
        if any(stale):
            with progress() as report:
                done, total = 0, sum(tree.policy.weight for trees in stale for tree in trees)
                for number, plan in enumerate(plans):
                    if stale[number]:
                        weight = sum(tree.policy.weight for tree in stale[number])
                        current[number] = self._refresh(
                            plan, current[number], stale[number], data, _part(report, done / total, weight / total)
                        )
                        done += weight
            self._collect_garbage({layer.name for layer in current if layer})
        return tuple(Layer(layer, _roots(plan, layer)) for plan, layer in zip(plans, current, strict=True) if layer)

    def _current(self, plan: LayerPlan) -> Path | None:
        numbers = self._numbers(plan)
        return self.path / f"{plan.name}-{max(numbers)}" if numbers else None

    def _numbers(self, plan: LayerPlan) -> list[int]:
        prefix = f"{plan.name}-"
        suffixes = [name[len(prefix) :] for name in os.listdir(self.path) if name.startswith(prefix)]
        return [int(suffix) for suffix in suffixes if suffix.isdecimal()]

    def _refresh(
        self, plan: LayerPlan, layer: Path | None, stale: Sequence[Tree], data: Data, progress: Progress
    ) -> Path:
        """Mirror the stale trees into the layer, or, when it is mounted or of one tree, all into a new one."""
        if layer is None or len(plan.trees) == 1 or layer.name in self._mounted():
            number = max(self._numbers(plan), default=0) + 1
            with self._staging() as staging:
                self._mirror(plan.trees, (), data, staging, progress)
                self._publish(staging, self.path / f"{plan.name}-{number}")
            return self.path / f"{plan.name}-{number}"
        kept = [root for tree in plan.trees if tree not in stale for root in _read(layer, tree)["roots"]]
        with self._staging() as staging:
            self._mirror(stale, kept, data, staging, progress)
            self._swap(layer, stale, staging)
        return layer

    def _mirror(
        self, trees: Sequence[Tree], earlier_roots: Sequence[str], data: Data, staging: Path, progress: Progress
    ) -> None:
        assert self._id_map is not None
        id_map = self._id_map
        total = sum(tree.policy.weight for tree in trees)
        indexes: list[survey.Index] = []

        def batches() -> Iterator[Batch]:
            from sysenv_ns import roots  # not needed by a start

            surplus = roots.surplus_roots(trees, policy.DATA_ROOTS - len(earlier_roots))
            found, done = list(earlier_roots), 0
            for tree in trees:
                index = survey.Index(found, surplus)
                if tree.policy.watch_packages:
                    # Before the walk: what changes while it goes on makes the layer stale.
                    index.watched |= {path: _signature(path) for path in policy.PACKAGE_DATABASES}
                share = _part(progress, done / total, tree.policy.weight / total)
                yield from survey.Walk(tree, id_map, data, index, share).batches()
                found += [root for root in index.roots if root not in found]
                done += tree.policy.weight
                indexes.append(index)

        building.write(batches(), staging / "tree", id_map, many=True)
        for tree, index in zip(trees, indexes, strict=True):
            write_json(staging / f"{_slug(tree)}.index.json", {"stubs": index.stubs, "left_out": index.left_out})
            made_from = {"version": FORMAT_VERSION, "plan": _plan(tree), "roots": index.roots, "watched": index.watched}
            write_json(staging / f"{_slug(tree)}.json", made_from)

    def _swap(self, layer: Path, trees: Sequence[Tree], staging: Path) -> None:
        """Put new trees in the place of old ones; without its description a tree counts as missing meanwhile."""
        for tree in trees:
            (layer / f"{_slug(tree)}.json").unlink(missing_ok=True)
        sync_directory(layer)
        outer = layout.outermost(tree.path for tree in trees)
        (staging / "old").mkdir()
        namespace.run_inside(
            self._id_map,
            lambda: building.swap(outer, layer / "tree", staging / "tree", staging / "old"),
            "sysenv-ns-swap",
        )
        for tree in trees:
            for name in (f"{_slug(tree)}.index.json", f"{_slug(tree)}.json"):
                os.rename(staging / name, layer / name)
        sync_directory(layer)

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        """A directory to build in, beside the layers; whatever is left of it at the end is deleted."""
        staging = self.path / f"new-{os.getpid()}"
        try:
            (staging / "tree").mkdir(parents=True, mode=0o755)
            yield staging
        except OSError as error:
            raise _build_error(error, self._store.path) from error
        finally:
            if staging.exists():  # in place: a disk that is full may have no room for a rename
                removal.remove_tree(staging, self._id_map)

    def _publish(self, staging: Path, path: Path) -> None:
        os.rename(staging, path)
        sync_directory(self.path)

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

    def _collect_garbage(self, current: set[str]) -> None:
        """Delete layers that neither are current nor mounted, and what interrupted builds left."""
        kept = current | self._mounted() | {"lock"}
        for name in os.listdir(self.path):
            if name not in kept and not name.startswith("own-"):
                self._discard(self.path / name)

    def _discard(self, path: Path) -> None:
        if path.exists():
            removal.remove_tree(removal.move_to_trash(path, self._store.trash), self._id_map)


def _fingerprint(value: object) -> str:
    """A name for a value. Not hashlib: its import takes longer than all else that a start does here."""
    return f"{zlib.crc32(repr(value).encode()):08x}"


def _stale_trees(plan: LayerPlan, layer: Path | None) -> list[Tree]:
    """The trees of a layer that must be mirrored (again), outer before inner ones."""
    if layer is None:
        return list(plan.trees)
    stale: list[Tree] = []
    first_root: str | None = None
    for tree in plan.trees:
        roots = _read(layer, tree).get("roots", ())
        # Stubs that are not in the first data-only lower depend on what those before theirs hold.
        exposed = bool(stale) and any(root != first_root for root in roots)
        inside = any(is_below(tree.path, other.path) for other in stale)
        if exposed or inside or not _holds(layer, tree):
            stale.append(tree)
        elif roots and first_root is None:
            first_root = roots[0]
    return stale


def _holds(layer: Path, tree: Tree) -> bool:
    """Whether the mirror of a tree still matches the host."""
    try:
        data = _read(layer, tree)
        if data["version"] != FORMAT_VERSION or data["plan"] != _plan(tree):
            return False
        watched = data["watched"]
        if tree.policy.watch_stubs:
            watched |= json.loads((layer / f"{_slug(tree)}.index.json").read_bytes())["stubs"]
    except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: it is made anew
        return False
    return all(_signature(path) == signature for path, signature in watched.items())


def _read(layer: Path, tree: Tree) -> dict[str, Any]:
    """The description of a tree in a layer; empty when it is absent or damaged."""
    try:
        data = json.loads((layer / f"{_slug(tree)}.json").read_bytes())
        return data if isinstance(data, dict) else {}
    except (OSError, ValueError):
        return {}


def _roots(plan: LayerPlan, layer: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(root for tree in plan.trees for root in _read(layer, tree).get("roots", ())))


def _part(report: Progress, begin: float, share: float) -> Progress:
    return lambda fraction: report(begin + share * fraction)


def _slug(tree: Tree) -> str:
    return tree.path.strip("/").replace("/", "-") or "root"


def _plan(tree: Tree) -> dict[str, Any]:
    """What of the plan goes into a mirror, as JSON gives it back."""
    return {"stops": sorted(tree.stops), "blocked": sorted(tree.blocked), "copied": sorted(tree.copied)}


def _signature(path: str) -> list[int] | None:
    try:
        return survey.signature(os.lstat(path))
    except OSError:
        return None


def _build_error(error: OSError, store: Path) -> SysenvError:
    where = f" ({error.filename})" if error.filename else ""
    return SysenvError(f"building the base failed: {reason(error)}{where}", remedies.storage(error, store))
