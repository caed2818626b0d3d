"""The upper directories of environments: whether there is anything in them, and how empty ones above frozen layers are
made. layers.py freezes and deletes; this is what each start of a throwaway environment needs of that.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import contextmanager, suppress
from sysenv_ns.environment import directory
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.files import copies, marks
from sysenv_ns.files.locks import file_lock
from sysenv_ns.files.replacement import write_new
from sysenv_ns.host import standins
from sysenv_ns.kernel.mountinfo import ancestors
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Hold the lock of all layers; an environment's lock must be taken first. Raises SysenvError."""
    with file_lock(store.layers / directory.LOCK):
        yield


def is_changed(environment: Environment) -> bool:
    """Whether its upper directories have anything except what the mounts of a start need there."""
    points = directory.inner_points(environment.path)
    needed = {path for point in points for path in (point, *ancestors(point)) if path != "/"}
    upper, *frozen = map(str, environment.uppers())
    try:
        others = [place for place in directory.listed([environment.path]).values() if place != directory.UPPER]
        return any(os.listdir(environment.path / place) for place in others) or not all(
            path in needed and _is_as_made(path, upper, frozen) for path in _entries(upper, "", needed)
        )
    except PermissionError:  # its root has another mode, which is a change
        return True


def _entries(upper: str, holder: str, needed: AbstractSet[str]) -> Iterator[str]:
    """The contents of a directory, and of its directories that mounts need, as paths of the environment."""
    for name in os.listdir(f"{upper}{holder}"):
        path = f"{holder}/{name}"
        yield path
        if path in needed:
            yield from _entries(upper, path, needed)


def _is_as_made(path: str, upper: str, frozen: Sequence[str]) -> bool:
    """Whether a directory is unchanged since it was created for a mount."""
    model = next(filter(os.path.isdir, (*(f"{layer}{path}" for layer in frozen), path)), None)
    if model is None:
        return False
    own, other = os.lstat(f"{upper}{path}"), os.lstat(model)
    return (own.st_mode, own.st_mtime_ns) == (other.st_mode, other.st_mtime_ns)


def make(models: Sequence[str], target: str, signed: Sequence[str], name: str) -> None:
    """Create empty directories with modes, owners and times of the uppermost model, as these are visible inside.

    Some may be there already.
    Those that are `signed` may have another name for the prompt. For a process with the capabilities of the namespace.
    """
    made: list[tuple[str, str]] = []
    for place in directory.listed(map(Path, models)).values():
        model = next((path for path in (f"{model}/{place}" for model in models) if os.path.isdir(path)), None)
        if model is not None:
            os.makedirs(os.path.dirname(f"{target}/{place}"), exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(f"{target}/{place}", 0o700)
            made.append((model, f"{target}/{place}"))
    made += show_name([f"{path}/{directory.UPPER}" for path in signed], f"{target}/{directory.UPPER}", name)
    for model, path in reversed(made):
        copies.dress(path, model, os.lstat(model))
        for attribute in filter(marks.is_of_overlay, os.listxattr(path)):
            os.removexattr(path, attribute)


def _directory(path: str) -> str:
    os.mkdir(path, 0o700)
    return path


def show_name(uppers: Sequence[str], upper: str, name: str) -> list[tuple[str, str]]:
    """Let the prompt show the name, unless its file was deleted inside; returns the directories created for it."""
    prompt = standins.prompt(name)
    holder = next((path for path in uppers if os.path.lexists(f"{path}/{prompt.path}")), None)
    if holder is None or not os.path.isfile(f"{holder}/{prompt.path}"):
        return []
    parent = os.path.dirname(prompt.path)
    model = next(path for path in (f"{u}/{parent}" for u in uppers) if os.path.isdir(path))
    made = [(model, _directory(f"{upper}/{parent}"))]
    write_new(Path(upper, prompt.path), prompt.content.encode(), prompt.mode, exact=True, owner=(0, 0))
    return made
