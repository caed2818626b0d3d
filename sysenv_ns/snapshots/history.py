"""snapshot, rollback, history, clone: one function a verb, each returning a frozen result; prints nothing.

A snapshot is a name for the frozen layers that an environment is made of at a moment. Whatever changes which these
are, happens by one rename(2): an interrupted command has done all or nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sysenv_ns import policy, resting, running, sudo
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.host import config
from sysenv_ns.kernel import remedies, removal
from sysenv_ns.snapshots import layers
from sysenv_ns.store import (
    Environment,
    Ephemeral,
    Snapshot,
    Store,
    check_name,
    is_directory,
    sync_directory,
    timestamp,
    write_description,
)
from sysenv_ns.upper import ephemeral

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
    """All snapshots of an environment, the oldest first, and the size of what has changed since."""

    name: str
    snapshots: tuple[Frozen, ...]
    size: int


@dataclass(frozen=True)
class Rollback:
    """To which snapshot, and by which the state before can be had again; None where there was nothing new."""

    label: str
    kept: str | None


def snapshot(store: Store, name: str, label: str | None) -> Snapshot:
    """Freeze the changes of an environment under a label. Raises SysenvError; then nothing has changed."""
    with _at_rest(store, name, "the snapshot") as environment:
        label = check_name(label, "a snapshot") if label else _free(environment, time.strftime("%Y-%m-%d-%H%M%S"))
        if _find(environment, label):
            raise SysenvError(
                f"{name} has a snapshot {label} already",
                f"choose another label, or delete that one: sysenv-ns snapshot --delete {name} {label}",
            )
        ident, chain = freeze(store, environment)
        made = Snapshot(label, timestamp(), chain, name)
        new = replace(environment, layers=chain, snapshots=(*environment.snapshots, made))
        if chain == environment.layers:
            _describe(new)
        else:
            layers.succeed(store, environment, new, ident)
    return made


def rollback(store: Store, name: str, label: str) -> Rollback:
    """Go back to a snapshot; the state before becomes one too. Raises SysenvError; then nothing has changed."""
    with _at_rest(store, name, "the rollback") as environment:
        target = _whole(store, environment, label)
        ident, chain = freeze(store, environment)
        kept: tuple[Snapshot, ...] = ()
        if chain not in [snapshot.layers for snapshot in environment.snapshots]:
            kept = (Snapshot(_free(environment, _BEFORE), timestamp(), chain, name, automatic=True),)
        new = replace(environment, layers=target.layers, snapshots=(*environment.snapshots, *kept))
        layers.succeed(store, environment, new, ident, renamed=target.environment != name)
    return Rollback(label, kept[0].label if kept else None)


def clone(
    store: Store, source: str, name: str, throwaway: Ephemeral | None = None, label: str | None = None
) -> Environment:
    """Make an environment that is what another one is, or was at a snapshot, and shares its files. Raises SysenvError.

    A throwaway one has no history: layers that the present state has not shall not be kept for it.
    """
    ephemeral.check_free(store, name, throwaway)
    sudo.require(store.load(source))
    ready = _at_rest if label is None else _locked  # what is frozen already does not change while it runs
    with ready(store, source, "the clone") as environment:
        chain, snapshots = _present(store, environment) if label is None else _past(store, environment, label)
        path = store.envs / name
        snapshots = snapshots if throwaway is None else ()
        new = replace(
            environment,
            name=name,
            ident=uuid.uuid4().hex,
            created=timestamp(),
            path=path,
            layers=chain,
            snapshots=snapshots,
            ephemeral=throwaway,
        )
        staging = removal.trash_path(store.trash, f"new-{name}")
        try:
            below = [store.layers / ident for ident in chain]
            layers.prepare(staging, new, below, environment.path, renamed=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(environment.path / config.NAME, staging / config.NAME)
            (staging / "lock").touch(mode=0o600)
            store.add(new, staging)
        finally:
            if staging.exists():
                removal.remove_tree(staging, new.id_map)
    return new


def _present(store: Store, environment: Environment) -> tuple[tuple[str, ...], tuple[Snapshot, ...]]:
    """The layers and snapshots for a clone of what an environment is, whose changes are frozen for it."""
    ident, chain = freeze(store, environment)
    if chain != environment.layers:
        layers.succeed(store, environment, replace(environment, layers=chain), ident)
    return chain, environment.snapshots


def _past(store: Store, environment: Environment, label: str) -> tuple[tuple[str, ...], tuple[Snapshot, ...]]:
    """The same of what it was at a snapshot, with the history up to there."""
    target = _whole(store, environment, label)
    return target.layers, environment.snapshots[: environment.snapshots.index(target) + 1]


def delete(store: Store, name: str, label: str) -> None:
    """Forget a snapshot. Unless it runs, what nothing but the present state needs is merged. Raises SysenvError."""
    sudo.require(store.load(name))
    with _locked(store, name, "deleting the snapshot") as environment:
        forgotten = _get(environment, label)
        left = tuple(snapshot for snapshot in environment.snapshots if snapshot != forgotten)
        new = replace(environment, snapshots=left)
        if not running.processes(store).get(environment.source):
            new = replace(new, layers=_merged(store, new))
        _describe(new)
    _collect(store)


def history(store: Store, name: str) -> History:
    """All snapshots with their sizes. Raises SysenvError."""
    environment = store.load(name)
    sudo.require(environment)
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


@contextlib.contextmanager
def _at_rest(store: Store, name: str, what: str) -> Iterator[Environment]:
    """An environment that does not run, and will not meanwhile; afterwards what is needed no more is deleted."""
    with _told(store, name, what), resting.at_rest(store, name, what) as environment, layers.locked(store):
        yield environment
    _collect(store)


@contextlib.contextmanager
def _locked(store: Store, name: str, what: str) -> Iterator[Environment]:
    with _told(store, name, what), store.lock(name), layers.locked(store):
        yield store.load(name)


@contextlib.contextmanager
def _told(store: Store, name: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = remedies.storage(error, store.path)
        raise SysenvError(f"{what} of {name} failed, nothing is changed: {located(error)}", hint) from error


def _collect(store: Store) -> None:
    # What cannot be deleted is in the trash already; it says nothing about whether the command has worked.
    with contextlib.suppress(OSError, SysenvError):
        layers.collect(store)


def freeze(store: Store, environment: Environment) -> tuple[str, tuple[str, ...]]:
    """A name for a layer of the changes, and of what the environment is made of when they are one.

    Without changes that is what it was. Very many layers become one, which the others do not know of.
    """
    ident = layers.new_ident()
    if not layers.is_changed(environment):
        return ident, environment.layers
    if len(environment.layers) < policy.LAYERS:
        return ident, (ident, *environment.layers)
    frozen = [store.layers / ident for ident in environment.layers]
    return ident, (layers.flatten(store, environment, [environment.path, *frozen]),)


def _merged(store: Store, environment: Environment) -> tuple[str, ...]:
    """Its layers, of which the uppermost are one now as far as nothing else needs them."""
    own = exclusive(store, environment)
    if len(own) < 2:
        return environment.layers
    return (layers.flatten(store, environment, [store.layers / i for i in own]), *environment.layers[len(own) :])


def exclusive(store: Store, environment: Environment) -> list[str]:
    """The uppermost of its layers, as far as nothing needs them but its present state."""
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
        hint = f"there are: {labels}" if labels else f"make one with: sysenv-ns snapshot {environment.name}"
        raise SysenvError(f"{environment.name} has no snapshot {label}", hint)
    return found


def _whole(store: Store, environment: Environment, label: str) -> Snapshot:
    """A snapshot that has all of its files."""
    found = _get(environment, label)
    if lost := [ident for ident in found.layers if not is_directory(store.layers / ident)]:
        raise SysenvError(f"the snapshot {label} has lost its files: there is no {store.layers / lost[0]}")
    return found


def _free(environment: Environment, label: str) -> str:
    """This label, or one like it that is not taken."""
    numbered = (label if number == 1 else f"{label}-{number}" for number in itertools.count(1))
    return next(found for found in numbered if _find(environment, found) is None)
