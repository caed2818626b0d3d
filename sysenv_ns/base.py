"""Builds the base layers and tells whether they still match the host; survey.py reads, mirror.py writes.

    base/KEY/                 KEY: driver and id map; shared by all environments that have both in common
        lock
        own-DIGEST/           what every environment has on top of the host's files (standins.additions)
        usr-3/                one layer per tree of policy.TREES; a newer number replaces an older one
            tree/             the layer, shaped like /
            layer.json        what it was made from, and the signatures that tell whether that has changed
            index.json        the signature of the data behind every stub

A layer is never changed: a stale one is replaced, and deleted once no running environment has it mounted.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import marshal
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sysenv_ns import children, layout, mirror, namespace, policy, removal, running, standins, survey
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.idmap import IdMap, find_program
from sysenv_ns.layout import Host, Tree
from sysenv_ns.store import Store, file_lock, sync_directory, write_json

FORMAT_VERSION = 1

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Layer:
    """A finished layer: its directory and the data-only lowers that its stubs need."""

    name: str
    path: Path
    roots: tuple[str, ...]

    @property
    def tree(self) -> Path:
        """The lower directory."""
        return self.path / "tree"


def directory(store: Store, driver: str, id_map: IdMap | None) -> Path:
    """Where the layers for a driver and id map lie. A changed subordinate range makes another base."""
    if id_map is None:
        return store.base / driver
    digest = hashlib.sha256(json.dumps(asdict(id_map)).encode()).hexdigest()[:12]
    return store.base / f"{driver}-{id_map.kind}-{digest}"


class Base:
    """The layers of one KEY; everything but the constructor needs the lock."""

    def __init__(self, store: Store, driver: str, id_map: IdMap | None) -> None:
        self._store = store
        self._id_map = id_map
        self.path = directory(store, driver, id_map)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One builds, the others wait; held until the layers are mounted, so that nobody deletes them before."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SysenvError(f"the base {self.path} cannot be made: {reason(error)}") from error
        with file_lock(self.path / "lock"):
            yield

    def own_layer(self) -> Layer:
        """The layer with the environment's own additions, made when it is missing."""
        single = self._id_map is not None and self._id_map.kind == "single"
        added = standins.additions(single, find_program("sudo") is not None, find_program("setpriv"))
        digest = hashlib.sha256(repr(added).encode()).hexdigest()[:12]
        path = self.path / f"own-{digest}"
        if not path.exists():
            self._stage(path, lambda staging: self._write(_addition_batches(added, self._id_map), staging))
        return Layer(path.name, path, ())

    def layers(self, host: Host, progress: Callable[[], contextlib.AbstractContextManager[Progress]]) -> tuple[Layer, ...]:
        """The current layers of all trees, uppermost first; what is missing or stale is built.

        `progress` is entered only when something is built. Raises SysenvError.
        """
        assert self._id_map is not None
        trees = layout.trees(host)
        kept, stale = self._sort_out(trees)
        if not stale:
            return tuple(kept[tree.path] for tree in trees)
        total = sum(tree.policy.weight for tree in stale)
        done = 0
        searched: list[str] = []
        with progress() as report:
            for tree in trees:
                if tree in stale:
                    kept[tree.path] = self._build(tree, tuple(searched), _part(report, done, tree.policy.weight, total))
                    done += tree.policy.weight
                searched += [root for root in kept[tree.path].roots if root not in searched]
        self._collect_garbage({layer.name for layer in kept.values()})
        return tuple(kept[tree.path] for tree in trees)

    def _sort_out(self, trees: tuple[Tree, ...]) -> tuple[dict[str, Layer], list[Tree]]:
        """The layers that still hold, by tree, and the trees that must be mirrored (again)."""
        kept: dict[str, Layer] = {}
        stale: list[Tree] = []
        first_root: str | None = None
        for tree in trees:
            layer = self._current(tree)
            # Stubs that are not in the first data-only lower depend on what the lowers before theirs hold.
            if layer is None or (stale and any(root != first_root for root in layer.roots if first_root)):
                stale.append(tree)
            else:
                kept[tree.path] = layer
                first_root = first_root or (layer.roots[0] if layer.roots else None)
        return kept, stale

    def _current(self, tree: Tree) -> Layer | None:
        """The newest layer of a tree if it still matches the host."""
        number = max(self._numbers(tree), default=0)
        path = self.path / f"{_slug(tree)}-{number}"
        try:
            data = json.loads((path / "layer.json").read_bytes())
            if data["version"] != FORMAT_VERSION or data["plan"] != _plan(tree):
                return None
            watched = dict(data["watched"])
            if tree.policy.watch_stubs:
                watched |= json.loads((path / "index.json").read_bytes())["stubs"]
        except (OSError, ValueError, KeyError, TypeError):  # absent or damaged: it is made anew
            return None
        if any(_signature(name) != signature for name, signature in watched.items()):
            return None
        return Layer(path.name, path, tuple(data["roots"]))

    def _numbers(self, tree: Tree) -> list[int]:
        prefix = f"{_slug(tree)}-"
        suffixes = [name[len(prefix) :] for name in os.listdir(self.path) if name.startswith(prefix)]
        return [int(suffix) for suffix in suffixes if suffix.isdecimal()]

    def _build(self, tree: Tree, earlier_roots: tuple[str, ...], progress: Progress) -> Layer:
        assert self._id_map is not None
        path = self.path / f"{_slug(tree)}-{max(self._numbers(tree), default=0) + 1}"
        index = survey.Index(tree, earlier_roots)
        packages = policy.PACKAGE_DATABASES if tree.policy.watch_packages else ()
        # Before the walk: what changes while it goes on makes the layer stale.
        index.watched.update({name: _signature(name) for name in packages})
        batches = survey.Walk(tree, self._id_map, index, progress).batches()

        def fill(staging: Path) -> None:
            self._write(batches, staging)
            write_json(staging / "index.json", {"stubs": index.stubs, "left_out": index.left_out})
            data = {"version": FORMAT_VERSION, "plan": _plan(tree), "roots": index.roots, "watched": index.watched}
            write_json(staging / "layer.json", data)

        self._stage(path, fill)
        return Layer(path.name, path, tuple(index.roots))

    def _stage(self, path: Path, fill: Callable[[Path], None]) -> None:
        """Make `path` from what `fill` writes beside it, all at once; on any failure nothing of it remains."""
        staging = self.path / f"new-{os.getpid()}"
        try:
            (staging / "tree").mkdir(parents=True, mode=0o755)
            fill(staging)
            os.rename(staging, path)
            sync_directory(self.path)
        except OSError as error:
            self._discard(staging)
            raise _build_error(error, self._store.path) from error
        except BaseException:
            self._discard(staging)
            raise

    def _write(self, batches: Iterator[survey.Batch], staging: Path) -> None:
        """Feed a writer inside the namespace from out here. Raises OSError."""
        read_end, write_end = os.pipe()

        def write() -> None:
            os.close(write_end)
            with os.fdopen(read_end, "rb") as stream:
                mirror.Writer(str(staging / "tree")).run(stream)

        def inside() -> None:
            if self._id_map is not None:
                namespace.enter(self._id_map)
                namespace.become_root()
            write()

        writer = children.Child(inside, "sysenv-ns-base")
        os.close(read_end)
        try:
            with os.fdopen(write_end, "wb", buffering=1 << 18) as stream:
                _send(batches, stream)
        except BrokenPipeError:
            pass  # the writer failed and says why
        writer.wait()

    def _collect_garbage(self, current: set[str]) -> None:
        """Delete layers that neither are current nor mounted, and what interrupted builds left."""
        used = set(current)
        for name in self._store.names():
            path = self._store.envs / name
            state = running.read_state(path)
            if state is not None and running.find(self._store.load(name)) is not None:
                used |= set(state.layers)
        for name in os.listdir(self.path):
            if name not in used and name != "lock" and not name.startswith("own-"):
                self._discard(self.path / name)

    def _discard(self, path: Path) -> None:
        if path.exists():
            removal.remove_tree(removal.move_to_trash(path, self._store.trash), self._id_map)


def _send(batches: Iterator[survey.Batch], stream: BinaryIO) -> None:
    for batch in batches:
        marshal.dump(tuple(batch), stream)
    marshal.dump(None, stream)


def _addition_batches(added: tuple[standins.Addition, ...], id_map: IdMap | None) -> Iterator[survey.Batch]:
    """The additions with the directories above them, which look like the host's where the host has them."""
    directories = sorted({str(parent) for a in added for parent in Path(a.path).parents})
    for name in directories:
        path = "" if name == "." else name
        status = _status(f"/{path}")
        mode, mtime = (status.st_mode & 0o7777, status.st_mtime_ns) if status else (0o755, 0)
        record = (survey.DIRECTORY, "", mode, 0, 0, mtime, None)
        entries = [
            (survey.COPY, Path(a.path).name, a.mode, 0, 0, 0, Path(a.copy_of).read_bytes() if a.copy_of else a.content.encode())
            for a in added
            if str(Path(a.path).parent) == name
        ]
        yield survey.Batch(path, record, entries)


def _part(report: Progress, done: int, weight: int, total: int) -> Progress:
    return lambda fraction: report((done + weight * fraction) / total)


def _slug(tree: Tree) -> str:
    return tree.path.strip("/").replace("/", "-") or "root"


def _plan(tree: Tree) -> dict[str, Any]:
    """What of the plan goes into a layer, as JSON gives it back."""
    return {"stops": sorted(tree.stops), "blocked": sorted(tree.blocked)}


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _signature(path: str) -> list[int] | None:
    status = _status(path)
    return None if status is None else survey.signature(status)


def _build_error(error: OSError, store: Path) -> SysenvError:
    hint = "see `sysenv-ns doctor`"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"make room on the file system of {store}, or set SYSENV_NS_HOME to a directory elsewhere"
    elif error.errno == errno.EOPNOTSUPP:
        hint = f"the file system of {store} has no user attributes; set SYSENV_NS_HOME to a directory elsewhere"
    where = f" ({error.filename})" if error.filename else ""
    return SysenvError(f"building the base failed: {reason(error)}{where}", hint)
