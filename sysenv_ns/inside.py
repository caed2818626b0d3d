"""Looks at the files of an environment from inside, where its symbolic links lead where they shall; executes nothing.

What looks is a child that joins the environment, or starts it for that moment. It imports nothing there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sysenv_ns import children, namespace, policy, session, sudo
from sysenv_ns.session import Reporter
from sysenv_ns.store import Environment, Store


@dataclass(frozen=True)
class Found:
    """A program: its path, the same without symbolic links, and whether that file is the environment's own."""

    path: str
    real: str
    own: bool


class Inside:
    """The files of an environment, for a process that is in it."""

    def __init__(self, uppers: Sequence[tuple[str, int]]) -> None:
        """`uppers`: the mount points ("" for /) with descriptors of the directories of changes over them."""
        self._uppers = sorted(uppers, key=lambda upper: len(upper[0]), reverse=True)

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
        point, upper = next(u for u in self._uppers if real.startswith(f"{u[0]}/"))
        try:
            status = os.stat(real[len(point) + 1 :], dir_fd=upper, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(status.st_mode)

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


def look(store: Store, environment: Environment, function: Callable[[Inside], object], reporter: Reporter) -> object:
    """What `function` (its result is anything JSON can carry) finds inside. Raises SysenvError, OSError."""
    sudo.require(environment)

    def see() -> object:
        uppers = [(point, os.open(path, os.O_PATH | os.O_DIRECTORY)) for point, path in _uppers(environment)]
        session.enter(store, environment, reporter)
        if environment.id_map is not None:
            namespace.become_root()
        return function(Inside(uppers))

    with store.lock(environment.name):
        return children.call(see, "sysenv-ns-look")


def _uppers(environment: Environment) -> list[tuple[str, str]]:
    mounts = environment.path / "mounts"
    names = os.listdir(mounts) if mounts.is_dir() else []
    points = ((f"/{name.replace('%2F', '/').replace('%25', '%')}", f"{mounts}/{name}/upper") for name in names)
    return [("", str(environment.upper)), *points]
