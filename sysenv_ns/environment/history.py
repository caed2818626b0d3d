"""snapshot, rollback, history, clone, rename: one function for each verb, with a frozen result; prints nothing.

A snapshot is a name for the frozen layers that an environment consists of at some moment. Whatever changes these
happens by one rename(2): an interrupted command has done all or nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sysenv_ns import policy
from sysenv_ns.environment import (
    directory,
    ephemeral,
    layers,
    links,
    rest,
    running,
    shims,
    throwaway,
    transaction,
    uppers,
)
from sysenv_ns.environment.description import (
    Environment,
    Ephemeral,
    Snapshot,
    like,
    now,
    read_description,
    write_description,
)
from sysenv_ns.environment.removed import Removed
from sysenv_ns.environment.store import Store, check_name
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files import marks
from sysenv_ns.files.reader import is_directory
from sysenv_ns.files.replacement import sync_directory
from sysenv_ns.kernel import remedies

_BEFORE = "before-rollback"


@dataclass(frozen=True)
class Frozen:
    """A snapshot as history shows it."""

    label: str
    created: float
    size: int  # bytes on the disk that the earlier ones do not have
    automatic: bool
    current: bool  # the environment has begun from it, or gone back to it


@dataclass(frozen=True)
class History:
    """All snapshots of an environment, the oldest first, and the size of later changes."""

    name: str
    snapshots: tuple[Frozen, ...]
    size: int


@dataclass(frozen=True)
class Rollback:
    """The restored snapshot, and the one that keeps the state before; None if nothing had changed since."""

    label: str
    kept: str | None


def snapshot(store: Store, name: str, label: str | None) -> Snapshot:
    """Freeze the changes of an environment under a label. Raises SysenvError; then nothing has changed."""
    with _at_rest(store, name, "the snapshot") as environment:
        label = check_name(label, "a snapshot") if label else _free(environment, time.strftime("%Y-%m-%d-%H%M%S"))
        if _find(environment, label):
            raise SysenvError(
                f"{name} already has a snapshot {label}",
                f"choose another label, or delete that one: sysenv-ns snapshot --delete {name} {label}",
            )
        ident, chain = freeze(store, environment)
        made = Snapshot(label, now(), chain, name)
        new = replace(environment, layers=chain, snapshots=(*environment.snapshots, made))
        if chain == environment.layers:
            _describe(new)
        else:
            layers.succeed(store, environment, new, ident)
    return made


def rollback(store: Store, name: str, label: str) -> Rollback:
    """Restore a snapshot; the state before becomes one too. Raises SysenvError; then nothing has changed."""
    with _at_rest(store, name, "the rollback") as environment:
        target = _whole(store, environment, label)
        ident, chain = freeze(store, environment)
        kept: tuple[Snapshot, ...] = ()
        if chain not in [snapshot.layers for snapshot in environment.snapshots]:
            kept = (Snapshot(_free(environment, _BEFORE), now(), chain, name, automatic=True),)
        new = replace(environment, layers=target.layers, snapshots=(*environment.snapshots, *kept))
        layers.succeed(store, environment, new, ident, renamed=target.environment != name)
    return Rollback(label, kept[0].label if kept else None)


def clone(
    store: Store,
    source: str,
    name: str,
    place: Ephemeral | None = None,
    label: str | None = None,
    driver: str | None = None,
) -> Environment:
    """Copy an environment, or one of its snapshots; the copy shares its files. Raises SysenvError.

    With a `place` for its changes it is a throwaway one: it has no history, so that no layers are kept for it that its
    state does not need. `driver`: another driver, which must work here and have changes of the same form.
    """
    ephemeral.check_free(store, name, place)
    model = store.load(source)
    model.require_root()
    if driver is not None:
        check_driver(model, driver)
    ready = _at_rest if label is None else _locked  # what is frozen already does not change while it runs
    with ready(store, source, "the clone") as environment:
        chain, snapshots = _present(store, environment) if label is None else _past(store, environment, label)
        if place == "memory" and chain:
            return throwaway.add(store, replace(environment, layers=chain), name)
        new = replace(
            like(environment, name, store.envs, environment.store),
            driver=driver or environment.driver,
            layers=chain,
            snapshots=snapshots if place is None else (),
            ephemeral=place,
            init=environment.init and place is None,
        )
        with transaction.staging(store.trash, f"{transaction.NEW}{name}", new.id_map) as staging:
            below = [store.layers / ident for ident in chain]
            layers.prepare(staging, new, below, environment.path, renamed=True)
            for file in (directory.CONFIG, directory.REGISTRY):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy2(environment.path / file, staging / file)
            (staging / directory.LOCK).touch(mode=0o600)
            store.add(new, staging)
    return new


def rename(store: Store, source: str, name: str) -> None:
    """Rename an environment. Raises SysenvError; then it keeps its name."""
    ephemeral.check_free(store, name, None)
    with _at_rest(store, source, "the renaming") as environment:
        if links.read(environment.path):
            raise SysenvError(
                f"there are links to commands of {source}, which use its name",
                f"delete the links, and create them again afterwards: sysenv-ns unlink {source}",
            )
        shims.remove(store, source)
        layers.show_name(environment, source, name)
        try:
            transaction.publish(environment.path, environment.path.with_name(name))
        except OSError:
            layers.show_name(environment, name, source)
            raise


def check_driver(environment: Environment, driver: str) -> None:
    """Raise SysenvError if a driver cannot use the files of an environment."""
    kind = environment.id_map.kind if environment.id_map else None
    fits = kind in policy.DRIVERS[driver] if kind else not policy.DRIVERS[driver]
    if not fits or marks.of(driver) != environment.marks:
        raise SysenvError(
            f"the driver {driver} cannot share the files of {environment.name}, which has the driver "
            f"{environment.driver} and the id map {kind or 'of root'}",
            f"copy it through a file: sysenv-ns export {environment.name} FILE; "
            f"sysenv-ns import --driver {driver} FILE",
        )


def _present(store: Store, environment: Environment) -> tuple[tuple[str, ...], tuple[Snapshot, ...]]:
    """The layers and snapshots for a clone of the present state, whose changes are frozen for it."""
    ident, chain = freeze(store, environment)
    if chain != environment.layers:
        layers.succeed(store, environment, replace(environment, layers=chain), ident)
    return chain, environment.snapshots


def _past(store: Store, environment: Environment, label: str) -> tuple[tuple[str, ...], tuple[Snapshot, ...]]:
    """The same for a clone of a snapshot, with the history up to it."""
    target = _whole(store, environment, label)
    return target.layers, environment.snapshots[: environment.snapshots.index(target) + 1]


def delete(store: Store, name: str, label: str) -> None:
    """Forget a snapshot. Layers that only the present state needs are merged, unless it runs. Raises SysenvError."""
    store.load(name).require_root()
    with _locked(store, name, "deleting the snapshot") as environment:
        forgotten = _get(environment, label)
        left = tuple(snapshot for snapshot in environment.snapshots if snapshot != forgotten)
        new = replace(environment, snapshots=left)
        if not running.processes(environment):
            new = replace(new, layers=_merged(store, new))
        _describe(new)
    layers.tidy(store)


def history(store: Store, name: str) -> History:
    """All snapshots with their sizes. Raises SysenvError."""
    environment = store.load(name)
    environment.require_root()
    seen: set[str] = set()
    groups: list[list[Path]] = []
    for chain in (*(snapshot.layers for snapshot in environment.snapshots), environment.layers):
        groups.append([store.layers / ident for ident in chain if ident not in seen])
        seen.update(chain)
    groups[-1].append(environment.path)
    try:
        *sizes, size = layers.sizes(environment.id_map, groups)
    except OSError as error:
        raise SysenvError(f"the files of {name} cannot be read: {located(error)}") from error
    found = (
        Frozen(s.label, s.created, bytes_, s.automatic, s.layers == environment.layers)
        for s, bytes_ in zip(environment.snapshots, sizes, strict=True)
    )
    return History(name, tuple(found), size)


def whole_size(store: Store, name: str) -> int | None:
    """The bytes on disk of an environment with its snapshots; what clones share counts for each of them.

    None if this user cannot look: it is damaged, real root's, or in memory. Raises SysenvError.
    """
    return _size(store, name, lambda: store.load(name))


def size_of_removed(store: Store, found: Removed) -> int | None:
    """The same of one that can be restored."""
    return _size(store, found.name, lambda: read_description(found.path, found.name, store.path))


def _size(store: Store, name: str, load: Callable[[], Environment]) -> int | None:
    try:
        environment = load()
        environment.require_root()
    except SysenvError:
        return None
    if environment.ephemeral == "memory":
        return None
    chains = (environment.layers, *(snapshot.layers for snapshot in environment.snapshots))
    frozen = dict.fromkeys(store.layers / ident for chain in chains for ident in chain)
    try:
        return layers.sizes(environment.id_map, [[*frozen, environment.path]])[0]
    except OSError as error:
        raise SysenvError(f"the files of {name} cannot be read: {located(error)}") from error


@contextlib.contextmanager
def _at_rest(store: Store, name: str, what: str) -> Iterator[Environment]:
    """An environment that is kept at rest; afterwards layers that are no longer needed are deleted."""
    with _told(store, name, what), rest.at_rest(store, name, what) as environment, uppers.locked(store):
        yield environment
    layers.tidy(store)


@contextlib.contextmanager
def _locked(store: Store, name: str, what: str) -> Iterator[Environment]:
    with _told(store, name, what), store.lock(name), uppers.locked(store):
        yield store.load(name)


@contextlib.contextmanager
def _told(store: Store, name: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = remedies.storage(error, store.path)
        raise SysenvError(f"{what} of {name} failed, nothing was changed: {located(error)}", hint) from error


def freeze(store: Store, environment: Environment) -> tuple[str, tuple[str, ...]]:
    """A name for a layer of the present changes, and the layers of the environment once they are frozen.

    Without changes the layers stay the same. Very many layers are merged into one, which no snapshot uses.
    """
    ident = layers.new_ident()
    if not uppers.is_changed(environment):
        return ident, environment.layers
    if len(environment.layers) < policy.LAYERS:
        return ident, (ident, *environment.layers)
    frozen = [store.layers / ident for ident in environment.layers]
    return ident, (layers.flatten(store, environment, [environment.path, *frozen]),)


def _merged(store: Store, environment: Environment) -> tuple[str, ...]:
    """Its layers, after merging the uppermost ones that nothing else needs."""
    own = exclusive(store, environment)
    if len(own) < 2:
        return environment.layers
    return (layers.flatten(store, environment, [store.layers / i for i in own]), *environment.layers[len(own) :])


def exclusive(store: Store, environment: Environment) -> list[str]:
    """The uppermost layers that only its present state needs."""
    others = layers.needed(store, but=environment.name)
    if others is None:
        return []
    kept = {ident for chain in (*others, *(s.layers for s in environment.snapshots)) for ident in chain}
    return [*itertools.takewhile(lambda ident: ident not in kept, environment.layers)]


def _describe(environment: Environment) -> None:
    write_description(environment.path, environment)
    sync_directory(environment.path)


def _find(environment: Environment, label: str) -> Snapshot | None:
    return next((snapshot for snapshot in environment.snapshots if snapshot.label == label), None)


def _get(environment: Environment, label: str) -> Snapshot:
    found = _find(environment, check_name(label, "a snapshot"))
    if found is None:
        labels = ", ".join(snapshot.label for snapshot in environment.snapshots)
        hint = f"existing ones: {labels}" if labels else f"take one with: sysenv-ns snapshot {environment.name}"
        raise SysenvError(f"{environment.name} has no snapshot {label}", hint)
    return found


def _whole(store: Store, environment: Environment, label: str) -> Snapshot:
    """A snapshot whose files are all there."""
    found = _get(environment, label)
    if lost := [ident for ident in found.layers if not is_directory(store.layers / ident)]:
        raise SysenvError(f"the snapshot {label} has lost its files: {store.layers / lost[0]} is missing")
    return found


def _free(environment: Environment, label: str) -> str:
    """This label, or a similar one that is free."""
    numbered = (label if number == 1 else f"{label}-{number}" for number in itertools.count(1))
    return next(found for found in numbered if _find(environment, found) is None)
