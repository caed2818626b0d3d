"""Freezes the changes of an environment, and deletes layers that are no longer needed; history.py is the caller.

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
from collections.abc import Callable, Sequence

from sysenv_ns.environment import directory, removed, transaction, uppers
from sysenv_ns.environment.description import Environment, read_description, write_description
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import copies, reader, removal, union
from sysenv_ns.files.marks import Marks
from sysenv_ns.files.reader import is_directory
from sysenv_ns.files.replacement import replace_hidden, sync_file_system
from sysenv_ns.files.sizes import on_disk, on_disk_once
from sysenv_ns.host import standins
from sysenv_ns.kernel import idmap, namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.paths import Path
from sysenv_ns.records import replace

# What a session that has ended has left, what tells of another state, and what a successor has already; and such of
# these as are half written.
_NOT_INHERITED = (
    directory.DESCRIPTION,
    directory.ORIGIN,
    directory.DRIFT_SEEN,
    directory.ACCOUNTS_SEEN,
    directory.STATE,
    directory.LOCK,
    directory.UPPER_LOCK,
)


def new_ident() -> str:
    """An unused name for a layer."""
    return os.urandom(8).hex()


def prepare(target: Path, new: Environment, below: Sequence[Path], model: Path, renamed: bool = False) -> None:
    """Create a directory for an environment with empty upper directories. Raises OSError, SysenvError.

    `below` are the directories of its frozen layers, uppermost first, `model` that of an environment like it;
    `renamed`: the layers have another environment's name in the prompt.
    """
    target.mkdir(mode=0o755)
    write_description(target, new)
    models = [*map(str, below), str(model)]
    with contextlib.suppress(FileNotFoundError):
        copies.copy_file(f"{models[0]}/{directory.ORIGIN}", f"{target}/{directory.ORIGIN}")
    signed = models[:-1] if renamed else []
    namespace.run_inside(new.id_map, lambda: uppers.make(models, str(target), signed, new.name), "sysenv-ns-layer")


def show_name(environment: Environment, old: str, new: str) -> None:
    """Let the prompt of an environment show a new name, where it shows the old one. It must not run.

    Raises OSError, SysenvError.
    """
    own = list(map(str, environment.uppers()))
    hides = environment.marks.is_opaque
    namespace.run_inside(environment.id_map, lambda: _replace_name(own, hides, old, new), "sysenv-ns-name")


def _replace_name(own: Sequence[str], hides: Callable[[str], bool], old: str, new: str) -> None:
    prompt = standins.prompt(new)
    upper, *frozen = own
    path, parent = Path(upper, prompt.path), Path(upper, prompt.path).parent
    if not os.path.lexists(parent):
        for model, made in reversed(uppers.show_name(frozen, upper, new)):
            copies.dress(made, model, os.lstat(model))
    # Where root has put something else it is root's, and a link would lead out of the store.
    elif is_directory(parent) and _says([upper] if os.path.lexists(path) or hides(str(parent)) else frozen, old):
        before = os.lstat(parent)
        replace_hidden(path, prompt.content.encode(), prompt.mode)
        os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def _says(places: Sequence[str], name: str) -> bool:
    """Whether the uppermost file for the prompt has this name."""
    prompt = standins.prompt(name)
    path = next((path for path in (f"{u}/{prompt.path}" for u in places) if os.path.lexists(path)), None)
    return path is not None and os.path.isfile(path) and reader.read(path) == prompt.content.encode()


def succeed(store: Store, old: Environment, new: Environment, ident: str, renamed: bool = False) -> None:
    """Replace `old` by `new`; `old` becomes the layer `ident`. Both locks must be held, and it must not run.

    Raises OSError, SysenvError; then the environment is unchanged.
    """
    staging = store.layers / ident
    below = [old.path if layer == ident else store.layers / layer for layer in new.layers]
    prepare(staging, new, below, old.path, renamed)
    inherit(old.path, staging)
    transaction.exchange(staging, old.path)


def inherit(old: Path, new: Path) -> None:
    """Copy the files to a successor that belong to an environment in any state. Raises OSError."""
    for entry in os.scandir(old):
        if entry.is_file(follow_symlinks=False) and not entry.name.startswith(_NOT_INHERITED):
            copies.copy_file(entry.path, f"{new}/{entry.name}")
    os.link(old / directory.LOCK, new / directory.LOCK)  # who waits for it finds it where it was


def flatten(store: Store, environment: Environment, directories: Sequence[Path]) -> str:
    """Merge several layers, uppermost first, into one; returns its name. Raises OSError, SysenvError."""
    ident = new_ident()
    target = store.layers / ident
    target.mkdir(mode=0o755)
    write_description(target, replace(environment, layers=(), snapshots=()))
    with contextlib.suppress(FileNotFoundError):
        copies.copy_file(f"{directories[0]}/{directory.ORIGIN}", f"{target}/{directory.ORIGIN}")
    merge(environment, directories, target)
    sync_file_system(target)  # what it is made of may be deleted next
    return ident


def merge(environment: Environment, directories: Sequence[Path], target: Path) -> None:
    """Merge the upper directories of these directories of an environment, uppermost first. Raises OSError."""
    marks = environment.marks
    namespace.run_inside(environment.id_map, lambda: merge_uppers(directories, target, marks), "sysenv-ns-layer")


def merge_uppers(directories: Sequence[Path], target: Path, marks: Marks) -> None:
    """The same, as root of their namespace. Raises OSError."""
    for place in directory.listed(directories).values():
        found = [f"{path}/{place}" for path in directories if os.path.isdir(path / place)]
        if found:
            os.makedirs(os.path.dirname(target / place), exist_ok=True)
            union.merge(found, str(target / place), marks)


def sizes(id_map: IdMap | None, groups: Sequence[Sequence[Path]]) -> tuple[int, ...]:
    """The bytes on disk of the upper directories in each group, without files that earlier groups have too.

    Raises OSError, SysenvError.
    """

    def inside() -> tuple[int, ...]:
        return on_disk_once(
            [str(p / place) for p in group for place in directory.listed([p]).values()] for group in groups
        )

    return namespace.call_inside(id_map, inside, tuple[int, ...], "sysenv-ns-size")


def needed(store: Store, but: str = "") -> list[tuple[str, ...]] | None:
    """The layers that each environment `but` one needs, also of those that can be restored; None if that is unknown.

    With the lock of all layers none of them is being moved meanwhile.
    """
    living = _chains(store, [(name, store.envs / name) for name in store.names() if name != but])
    former = _chains(store, [(one.name, one.path) for one in removed.all_of(store.removed)])
    return None if living is None or former is None else [*living, *former]


def _chains(store: Store, places: Sequence[tuple[str, Path]]) -> list[tuple[str, ...]] | None:
    """The layers that these environments need, by name and directory; None if that is unknown for one of them."""
    found: list[tuple[str, ...]] = []
    for name, path in places:
        try:
            environment = read_description(path, name, store.path)
        except SysenvError:
            return None
        found += [environment.layers, *(snapshot.layers for snapshot in environment.snapshots)]
    return found


def size_of_removed(store: Store) -> int:
    """The bytes on disk that deleting the removed environments for good would free. Raises OSError, SysenvError."""
    if not (found := removed.all_of(store.removed)):
        return 0
    living = _chains(store, [(name, store.envs / name) for name in store.names()])
    former = _chains(store, [(one.name, one.path) for one in found])
    idle: set[str] = set()
    if living is not None and former is not None:  # else no layer would be deleted
        idle = {ident for chain in former for ident in chain} - {ident for chain in living for ident in chain}
    paths = [*(one.path for one in found), *(store.layers / ident for ident in idle)]
    return namespace.call_inside(idmap.widest(), lambda: sum(map(on_disk, paths)), int, "sysenv-ns-size")


def collect(store: Store) -> None:
    """Delete the layers that no environment needs, except those of another user. Raises OSError, SysenvError."""
    with uppers.locked(store):
        if (chains := needed(store)) is None:
            return
        kept = {ident for chain in chains for ident in chain}
        doomed = [
            (_id_map(path, store.path), transaction.move_to_trash(path, store.trash))
            for path in store.layers.iterdir()
            if path.name not in kept and is_directory(path) and path.lstat().st_uid == os.geteuid()
        ]
    groups: dict[IdMap | None, list[Path]] = {}
    for id_map, path in doomed:
        groups.setdefault(id_map, []).append(path)
    for id_map, paths in groups.items():
        removal.remove_trees(paths, id_map)


def tidy(store: Store) -> None:
    """The same as far as it is possible, at the end of a command: whether that has worked is another matter.

    What cannot be deleted is in the trash already.
    """
    with contextlib.suppress(OSError, SysenvError):
        collect(store)


def _id_map(path: Path, store: Path) -> IdMap | None:
    try:
        return read_description(path, path.name, store).id_map
    except SysenvError:  # damaged, or begun only
        return idmap.of_files([path / directory.UPPER, path / directory.WORK / directory.WORK])
