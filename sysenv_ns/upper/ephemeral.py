"""Throwaway environments: their names, their changes in memory, and what is left of those that have ended.

Nothing waits for the end of one. What is in memory is gone with its last process, as the file system is mounted in its
own mount namespace only; what is on the disk, the next command removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import copying, syscalls
from sysenv_ns.kernel.operations import Operation, Overlay
from sysenv_ns.store import Environment, Ephemeral, Store
from sysenv_ns.upper.fuse import FuseOverlay

_NAME = re.compile(r"ephemeral-([0-9]+)(-[0-9]+)?")
_MEMORY = "memory"  # where the file system is mounted


def new_name(store: Store) -> str:
    """A free name, which tells the process that it is made for: until that has started it, nothing else does."""
    name = f"ephemeral-{os.getpid()}"
    number = 1
    while store.exists(name):
        number += 1
        name = f"ephemeral-{os.getpid()}-{number}"
    return name


def is_name(name: str) -> bool:
    """Whether a name is one of those."""
    return _NAME.fullmatch(name) is not None


def check_free(store: Store, name: str, throwaway: Ephemeral | None) -> None:
    """Raise SysenvError when a new environment cannot have this name."""
    if throwaway is None and is_name(name):
        raise SysenvError(f"{name} is the name of a throwaway environment", "choose another one", exit_status=2)
    if store.exists(name):
        raise SysenvError(f"the environment {name} exists already", f"enter it with: sysenv-ns shell {name}")


def ended(store: Store) -> Iterator[Environment]:
    """Those whose first process has ended; in some of them other processes may live."""
    for name in store.names():
        found = _NAME.fullmatch(name)
        if found and not Path("/proc", found[1]).exists():
            with contextlib.suppress(SysenvError):  # damaged, or removed meanwhile: remove tells
                environment = store.load(name)
                if environment.ephemeral is not None:
                    yield environment


def refuse(environment: Environment, what: str) -> None:
    """Raise SysenvError for a throwaway one: what it has in memory is out of reach, and nothing of it is to stay."""
    if environment.ephemeral is not None:
        raise SysenvError(
            f"{what} of {environment.name} is not possible: it is a throwaway environment",
            "make one that stays: sysenv-ns create NAME",
        )


def refuse_in_memory(environment: Environment, what: str) -> None:
    """Raise SysenvError for one whose changes nobody outside can see."""
    if environment.ephemeral == "memory":
        raise SysenvError(
            f"{what} of {environment.name} cannot be told: they are in memory, inside it alone",
            "--on-disk keeps those of a throwaway environment on the disk",
        )


def planned(
    plan: Sequence[Operation], environment: Environment, notice: Callable[[str], None]
) -> tuple[Operation, ...]:
    """The plan of a start with the changes where they shall be; for a process that has entered its namespaces.

    Raises SysenvError.
    """
    if environment.ephemeral == "memory":
        place = environment.path / _MEMORY
        try:
            place.mkdir(mode=0o755, exist_ok=True)
            if _mount(place):
                return tuple(_moved(operation, environment, place) for operation in plan)
        except OSError as error:
            raise SysenvError(f"keeping changes in memory failed: {reason(error)}", "add --on-disk") from error
        notice("file systems in memory have no user attributes before Linux 6.6: changes are kept on the disk")
    return tuple(replace(o, volatile=True) if isinstance(o, Overlay) else o for o in plan)


def _mount(place: Path) -> bool:
    """Mount a file system in memory; whether overlayfs can have an upper there."""
    with syscalls.FilesystemContext("tmpfs") as context:
        for key, value in (("mode", "755"), ("uid", "0"), ("gid", "0")):
            context.set_string(key, value)
        mount = context.mount()
    try:
        os.setxattr(f"/proc/self/fd/{mount}", "user.sysenv-ns", b"y")
        # Not a detached one: before Linux 6.15 overlayfs takes only what is mounted somewhere.
        point = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.move_mount(mount, point, str(place))
        finally:
            os.close(point)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    finally:
        os.close(mount)
    return True


def _moved(operation: Operation, environment: Environment, place: Path) -> Operation:
    """An overlay with its upper in memory, which begins as what is on the disk: a few files of the tool's own."""
    if not isinstance(operation, Overlay | FuseOverlay):
        return operation
    directory = place / os.path.relpath(os.path.dirname(operation.upper), environment.path)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    upper, work = str(directory / "upper"), str(directory / "work")
    copying.copy_tree(operation.upper, upper)
    os.mkdir(work, 0o755)
    return replace(operation, upper=upper, work=work)
