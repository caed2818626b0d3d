"""Looks at the files of an environment from inside, where its symbolic links lead where they shall; executes nothing.

What looks is a child that joins the environment, or starts it for that moment. It imports nothing there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns import policy, session, sudo
from sysenv_ns.kernel import children, namespace
from sysenv_ns.session import Reporter
from sysenv_ns.store import Environment, Store
from sysenv_ns.upper import uppers


@dataclass(frozen=True)
class Found:
    """A program: its path, the same without symbolic links, and whether that file is the environment's own."""

    path: str
    real: str
    own: bool


class Inside:
    """The files of an environment, for a process that is in it."""

    def __init__(self, layers: Mapping[str, Sequence[int]]) -> None:
        """`layers`: by mount point ("" for /) descriptors of the directories of changes over it, uppermost first."""
        self._layers = layers

    def find(self, name: str, directories: Sequence[str], is_other: Callable[[str], bool]) -> Found | None:
        """A program by its absolute path, or the first of that name; not those that `is_other` says are meant for
        somewhere else.
        """
        paths = [name] if "/" in name else [f"{d}/{name}" for d in directories if d.startswith("/")]
        for path in paths:
            if os.path.isfile(path) and os.access(path, os.X_OK) and not is_other(path):
                real = os.path.realpath(path)
                return Found(path, real, self._is_own(real))
        return None

    def _is_own(self, real: str) -> bool:
        point = max((point for point in self._layers if real.startswith(f"{point}/")), key=len)
        return any(_has_file(layer, real[len(point) + 1 :]) for layer in self._layers[point])

    def read(self, path: str, limit: int) -> bytes | None:
        """A regular file of the system directories of at most so many bytes; None where there is no such file."""
        real = os.path.realpath(path)
        if not policy.OVERLAID.fullmatch(real.split("/")[1]):  # it leads to the user's own files
            return None
        try:
            descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb", closefd=True) as stream:
            status = os.fstat(descriptor)
            return stream.read() if stat.S_ISREG(status.st_mode) and status.st_size <= limit else None


def _has_file(directory: int, path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path, dir_fd=directory, follow_symlinks=False).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def look(store: Store, environment: Environment, function: Callable[[Inside], object], reporter: Reporter) -> object:
    """What `function` (its result is anything JSON can carry) finds inside. Raises SysenvError, OSError."""
    sudo.require(environment)

    def see() -> object:
        current = store.load(environment.name)  # what it is made of may have changed before the lock was taken
        places = uppers.listed(current.uppers("")).items()
        layers = {point: [_open(path) for path in current.uppers(place) if path.is_dir()] for point, place in places}
        session.enter(store, current, reporter)
        if current.id_map is not None:
            namespace.become_root()
        return function(Inside(layers))

    with store.lock(environment.name):
        return children.call(see, "sysenv-ns-look")


def _open(directory: Path) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
