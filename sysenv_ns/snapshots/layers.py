"""Freezes the changes of an environment, and deletes what is needed no more; what it is frozen for, history.py knows.

STORE/layers/ID/    a whole directory of an environment as it was when it was frozen, whose upper/ (and mounts/*/upper/)
                    overlays mount as a lower layer; or what several such were merged into
STORE/layers/lock   held by whoever adds or deletes one

A successor of the environment is prepared in STORE/layers/ID: as it is, but with nothing in its upper directory and the
layer ID below. One rename(2) then exchanges the two directories. Before it the environment is what it was, and what
lies in STORE/layers is garbage; after it all is done.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sysenv_ns.errors import SysenvError
from sysenv_ns.host import standins
from sysenv_ns.kernel import copying, namespace, removal, syscalls
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.packages import origin
from sysenv_ns.store import (
    Environment,
    Store,
    file_lock,
    is_directory,
    read_description,
    sync_directory,
    sync_file_system,
    write_description,
)
from sysenv_ns.upper import merging, uppers, view

# What a session that has ended has left, what tells of another state, and what a successor has already; and such of
# these as are half written.
_NOT_INHERITED = ("env.json", origin.NAME, "drift-seen", "state.json", "lock", "upper.lock")


def new_ident() -> str:
    """A name for a layer that none has had yet."""
    return os.urandom(8).hex()


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """Hold the lock of all layers; that of an environment is taken before. Raises SysenvError."""
    with file_lock(store.layers / "lock"):
        yield


def is_changed(environment: Environment) -> bool:
    """Whether there is anything in its upper directories."""
    try:
        return any(os.listdir(environment.path / place) for place in uppers.listed([environment.path]).values())
    except PermissionError:  # its root has another mode, which is a change
        return True


def prepare(target: Path, new: Environment, below: Sequence[Path], model: Path, renamed: bool = False) -> None:
    """Make a directory for an environment with nothing in its upper directories. Raises OSError, SysenvError.

    `below` are the directories of its frozen layers, uppermost first, `model` that of an environment like it;
    `renamed`: the layers show the name of another one.
    """
    target.mkdir(mode=0o755)
    write_description(target, new)
    models = [*map(str, below), str(model)]
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(f"{models[0]}/{origin.NAME}", target / origin.NAME)
    signed = models[:-1] if renamed else []
    namespace.run_inside(new.id_map, lambda: _make_uppers(models, str(target), signed, new.name), "sysenv-ns-layer")


def _make_uppers(models: Sequence[str], target: str, signed: Sequence[str], name: str) -> None:
    """Empty directories, whose modes, owners and times are those of the uppermost model: they show inside.

    In what is `signed` there may be another name for the prompt.
    """
    made: list[tuple[str, str]] = []
    for place in uppers.listed(map(Path, models)).values():
        model = next((path for path in (f"{model}/{place}" for model in models) if os.path.isdir(path)), None)
        if model is not None:
            os.makedirs(os.path.dirname(f"{target}/{place}"), exist_ok=True)
            made.append((model, _directory(f"{target}/{place}")))
    made += _show_name([f"{path}/upper" for path in signed], f"{target}/upper", name)
    for model, path in reversed(made):
        copying.dress(path, model, os.lstat(model))
        for attribute in filter(view.is_of_overlay, os.listxattr(path)):
            os.removexattr(path, attribute)


def _directory(path: str) -> str:
    os.mkdir(path, 0o700)
    return path


def _show_name(uppers: Sequence[str], upper: str, name: str) -> list[tuple[str, str]]:
    """Let the prompt say the name, unless the file for that has been taken away; the directories made for it."""
    prompt = standins.prompt(name)
    holder = next((path for path in uppers if os.path.lexists(f"{path}/{prompt.path}")), None)
    if holder is None or not os.path.isfile(f"{holder}/{prompt.path}"):
        return []
    parent = os.path.dirname(prompt.path)
    model = next(path for path in (f"{u}/{parent}" for u in uppers) if os.path.isdir(path))
    made = [(model, _directory(f"{upper}/{parent}"))]
    descriptor = os.open(f"{upper}/{prompt.path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, prompt.mode)
    with os.fdopen(descriptor, "w") as stream:
        os.fchmod(descriptor, prompt.mode)
        stream.write(prompt.content)
        stream.flush()
        os.fsync(descriptor)
    return made


def succeed(store: Store, old: Environment, new: Environment, ident: str, renamed: bool = False) -> None:
    """Put `new` in the place of `old`, which becomes the layer `ident`. Both locks must be held, and it must not run.

    Raises OSError, SysenvError; then the environment is what it was.
    """
    staging = store.layers / ident
    below = [old.path if layer == ident else store.layers / layer for layer in new.layers]
    prepare(staging, new, below, old.path, renamed)
    inherit(old.path, staging)
    sync_directory(staging)
    syscalls.exchange(str(staging), str(old.path))
    for path in (store.envs, store.layers):
        sync_directory(path)


def inherit(old: Path, new: Path) -> None:
    """Give a successor what belongs to an environment, whatever its state is. Raises OSError."""
    for entry in os.scandir(old):
        if entry.is_file(follow_symlinks=False) and not entry.name.startswith(_NOT_INHERITED):
            shutil.copy2(entry.path, new / entry.name)
    os.link(old / "lock", new / "lock")  # who waits for it finds it where it was


def flatten(store: Store, environment: Environment, directories: Sequence[Path]) -> str:
    """Make one layer of several, uppermost first; gives its name. Raises OSError, SysenvError."""
    ident = new_ident()
    target = store.layers / ident
    target.mkdir(mode=0o755)
    write_description(target, replace(environment, layers=(), snapshots=()))
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(directories[0] / origin.NAME, target / origin.NAME)
    namespace.run_inside(
        environment.id_map, lambda: merge_uppers(directories, target, environment.driver), "sysenv-ns-layer"
    )
    sync_file_system(target)  # what it is made of may be deleted next
    return ident


def merge_uppers(directories: Sequence[Path], target: Path, driver: str) -> None:
    """Merge the upper directories in these, uppermost first, as root of their namespace. Raises OSError."""
    for place in uppers.listed(directories).values():
        found = [f"{path}/{place}" for path in directories if os.path.isdir(path / place)]
        if found:
            os.makedirs(os.path.dirname(target / place), exist_ok=True)
            merging.merge(found, str(target / place), view.signs(driver))


def sizes(id_map: IdMap | None, groups: Sequence[Sequence[Path]]) -> list[int]:
    """The bytes on the disk of the upper directories in each group: a file that earlier ones have too counts once.

    Raises OSError, SysenvError.
    """
    found = namespace.run_inside(id_map, lambda: _sizes(groups), "sysenv-ns-size")
    assert isinstance(found, list)
    return found


def _sizes(groups: Sequence[Sequence[Path]]) -> list[int]:
    seen: set[tuple[int, int]] = set()
    found = []
    for group in groups:
        waiting = [str(path / place) for path in group for place in uppers.listed([path]).values()]
        size = 0
        while waiting:
            with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        size += 0 if (status.st_dev, status.st_ino) in seen else 512 * status.st_blocks
                        seen.add((status.st_dev, status.st_ino))
                        waiting += [entry.path] if entry.is_dir(follow_symlinks=False) else []
        found.append(size)
    return found


def needed(store: Store, but: str = "") -> list[tuple[str, ...]] | None:
    """The layers that each environment `but` one needs; None when there is one that nobody can tell of."""
    found: list[tuple[str, ...]] = []
    for name in store.names():
        try:
            environment = read_description(store.envs / name, name)
        except SysenvError:
            return None
        if name != but:
            found += [environment.layers, *(snapshot.layers for snapshot in environment.snapshots)]
    return found


def collect(store: Store) -> None:
    """Delete the layers that no environment needs, but those of another user. Raises OSError, SysenvError."""
    with locked(store):
        if (chains := needed(store)) is None:
            return
        kept = {ident for chain in chains for ident in chain}
        doomed = [
            (_id_map(path), removal.move_to_trash(path, store.trash))
            for path in store.layers.iterdir()
            if path.name not in kept and is_directory(path) and path.lstat().st_uid == os.geteuid()
        ]
    for id_map, path in doomed:
        if id_map is None and os.geteuid() != 0:  # what was begun, before there was anything in it
            shutil.rmtree(path)
        else:
            removal.remove_tree(path, id_map)


def _id_map(path: Path) -> IdMap | None:
    try:
        return read_description(path, path.name).id_map
    except SysenvError:
        return None
