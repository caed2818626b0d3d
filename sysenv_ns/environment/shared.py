"""Environments of a store that is only read, such as one on a disk that the nodes of a cluster share.

A throwaway environment on top of such a one lies in the user's own store, as its base does; what is below it are frozen
layers in the other store, of which nothing is locked, changed or recorded.
"""

from __future__ import annotations

import os
import stat

from sysenv_ns.basics import suppress
from sysenv_ns.environment import directory, ephemeral, throwaway, transaction, uppers
from sysenv_ns.environment.description import Environment, Ephemeral, like
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.kernel import ownership, remedies
from sysenv_ns.paths import Path
from sysenv_ns.records import replace

_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def holding(own: Store, name: str) -> Store | None:
    """The store of $SYSENV_NS_SHARED, for a name that the user's own store does not have. Raises SysenvError."""
    path = os.environ.get(directory.SHARED_VARIABLE)
    if not path or own.exists(name):
        return None
    shared = Store(Path(os.path.realpath(path)))  # so that nobody leads it elsewhere after a look at it
    ownership.require(shared.path)
    try:
        status = shared.path.stat()
    except OSError as error:
        raise SysenvError(
            f"the shared store {path} cannot be read: {reason(error)}",
            f"set {directory.SHARED_VARIABLE} to a store that this machine can read",
        ) from error
    if status.st_uid != os.geteuid():  # the owners of its files are no ids of ours
        raise SysenvError(
            f"the shared store {path} belongs to another user", "get the environment from a registry: sysenv-ns pull"
        )
    if status.st_mode & _OF_OTHERS:
        raise SysenvError(f"other users can write to the shared store {path}", "close it with: chmod go-w")
    return shared


def on_top(own: Store, shared: Store, source: str, name: str, place: Ephemeral) -> Environment:
    """Create a throwaway environment on top of one in a shared store. Raises SysenvError; then nothing is left."""
    model = shared.load(source)
    ephemeral.refuse(model, "a copy")
    _check(model)
    own.prepare()
    if place == "memory" and model.layers:
        # What the host was when it began is a state of another one: here nothing follows it, or asks for a rebase.
        return throwaway.add(own, replace(model, shared=shared.path), name, (directory.CONFIG,))
    return _on_disk(own, shared, model, name, place)


def _on_disk(own: Store, shared: Store, model: Environment, name: str, place: Ephemeral) -> Environment:
    """One whose upper directories are made now."""
    import shutil

    from sysenv_ns.environment import layers

    new = replace(like(model, name, own.envs, own.path), shared=shared.path, ephemeral=place, init=False)
    try:
        with transaction.staging(own.trash, f"{transaction.NEW}{name}", new.id_map) as staging:
            below = [shared.layers / ident for ident in new.layers]
            layers.prepare(staging, new, below, model.path, renamed=True)
            (staging / directory.ORIGIN).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copy2(model.path / directory.CONFIG, staging / directory.CONFIG)
            (staging / directory.LOCK).touch(mode=0o600)
            own.add(new, staging)
    except OSError as error:
        hint = remedies.storage(error, own.path)
        raise SysenvError(f"creating {name} failed: {located(error)}", hint) from error
    return new


def _check(model: Environment) -> None:
    """Raise SysenvError if an environment of a shared store cannot be below one of this host."""
    if model.by_root:
        raise SysenvError(
            f"{model.name} has the driver root, and cannot be shared",
            "run it with sysenv-ns on the machine that has it",
        )
    try:
        changed = uppers.is_changed(model)
    except OSError as error:
        raise SysenvError(f"the files of {model.name} cannot be read: {located(error)}") from error
    if changed:
        raise SysenvError(
            f"{model.name} in the shared store {model.store} has changes that are not in a snapshot",
            f"take one where it is made: SYSENV_NS_HOME={model.store} sysenv-ns snapshot {model.name}",
        )
