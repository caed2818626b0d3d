"""Looks at the files of an environment from inside, where symbolic links lead to its own files; executes nothing.

What looks is a child that joins the environment, or starts it for that moment. It imports nothing there.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from sysenv_ns import session
from sysenv_ns.drivers import driver
from sysenv_ns.environment import config, directory
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.files.reader import Root
from sysenv_ns.host import layout
from sysenv_ns.kernel import children, namespace
from sysenv_ns.records import replace
from sysenv_ns.reporter import Reporter

_T = TypeVar("_T")
_LINKS = 40  # as many as the kernel follows, path_resolution(7)
_ENTRIES = 50_000  # of a directory that are looked at


@dataclass(frozen=True)
class Program:
    """A program: its path, the same without symbolic links, and whether that file is the environment's own."""

    path: str
    real: str
    own: bool


class Inside:
    """The files of an environment, for a process that is in it."""

    def __init__(
        self,
        layers: Mapping[str, Sequence[int]],
        bound: Sequence[str] = (),
        added: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """`layers`: by mount point ("" for /) descriptors of the directories of changes over it, uppermost first;
        `bound`: what shows the host's own; `added`: what every environment has there, by paths.
        """
        self._layers, self._bound, self._added = layers, bound, added
        self._root = Root("/")

    def find(self, name: str, directories: Sequence[str], is_other: Callable[[str], bool]) -> Program | None:
        """A program by its absolute path, or the first of that name; not those that `is_other` says are meant for
        somewhere else.
        """
        paths = [name] if "/" in name else [f"{d}/{name}" for d in directories if d.startswith("/")]
        for path in paths:
            if os.path.isfile(path) and os.access(path, os.X_OK) and not is_other(path):
                real = os.path.realpath(path)
                return Program(path, real, self._is_own(real))
        return None

    def programs(self, directories: Sequence[str]) -> dict[str, str]:
        """The programs in these directories, as a shell finds them, that the environment has added or changed.

        A program counts as changed too where a symbolic link on the way to it has been: alternatives are such.
        """
        first: dict[str, str] = {}
        for place in directories:
            for name in _listed(place):
                path = f"{place}/{name}"
                if name not in first and os.path.isfile(path) and os.access(path, os.X_OK):
                    first[name] = path
        return {name: path for name, path in first.items() if self._is_changed(path)}

    def _is_changed(self, path: str) -> bool:
        for _ in range(_LINKS):
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            if self._is_own(path, stat.S_IFLNK):
                return True
            try:
                path = os.path.join(os.path.dirname(path), os.readlink(path))
            except OSError:  # the file itself
                break
        return self._is_own(path)

    def _is_own(self, real: str, kind: int = stat.S_IFREG) -> bool:
        point = max((point for point in self._layers if real.startswith(f"{point}/")), key=len)
        in_layers = any(_has(layer, real[len(point) + 1 :], kind) for layer in self._layers[point])
        return in_layers and not self._is_as_added(real)

    def _is_as_added(self, real: str) -> bool:
        added = self._added.get(real)
        try:
            return added is not None and self._root.read(real, len(added)) == added
        except OSError:  # it is longer
            return False

    def read(self, path: str, limit: int) -> bytes | None:
        """A file of the system directories of at most so many bytes that all may read; None where there is none."""
        real = os.path.realpath(path)
        if not layout.is_of_environment(real, self._bound):  # it leads to the user's own files
            return None
        try:
            # Without links: what has been exchanged for one since is not followed.
            descriptor = self._root.open(real)
            with os.fdopen(descriptor, "rb") as stream:
                is_public = os.fstat(descriptor).st_mode & stat.S_IROTH
                data = stream.read(limit + 1) if is_public else None
        except OSError:
            return None
        return data if data is not None and len(data) <= limit else None


def _has(directory: int, path: str, kind: int) -> bool:
    try:
        return stat.S_IFMT(os.stat(path, dir_fd=directory, follow_symlinks=False).st_mode) == kind
    except (FileNotFoundError, NotADirectoryError):
        return False


def _listed(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, _ENTRIES))
    except OSError:  # there is none
        return []


def look(
    store: Store, environment: Environment, function: Callable[[Inside], _T], kind: type[_T], reporter: Reporter
) -> _T:
    """What `function` finds inside, which is of that type. Raises SysenvError, OSError."""
    environment.require_root()

    def see() -> _T:
        current = store.load(environment.name)  # what it is made of may have changed before the lock was taken
        places = directory.listed(current.uppers("")).items()
        layers = {point: [_open(path) for path in current.uppers(place) if path.is_dir()] for point, place in places}
        settings = config.of_environment(store, current)
        bound = config.host(store, current, settings).shown
        added = {
            f"/{addition.path}": addition.content.encode("utf-8", "surrogateescape")
            for addition in driver.of(current).upper_additions()
        }
        # Its files can be seen without its process 1.
        session.enter(store, replace(current, init=False), reporter, settings)
        if not current.by_root:
            namespace.become_root()
        return function(Inside(layers, bound, added))

    with store.lock(environment.name):
        return children.call(see, kind, "sysenv-ns-look")


def _open(directory: Path) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
