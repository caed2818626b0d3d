"""The changes of a throwaway environment in memory: mounts a file system for them, filled from those on disk.

They are gone with its last process, as the file system is mounted in its own mount namespace only.
"""

from __future__ import annotations

import errno
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.environment import directory, uppers
from sysenv_ns.environment.description import Environment
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import copies
from sysenv_ns.kernel import syscalls
from sysenv_ns.kernel.operations import Operation
from sysenv_ns.kernel.overlay import Overlay, UnionMount
from sysenv_ns.paths import Path
from sysenv_ns.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def planned(
    plan: Sequence[Operation], environment: Environment, notice: Callable[[str], None]
) -> tuple[Operation, ...]:
    """The plan of a start with the changes in memory, if possible; for a process that has entered its namespaces.

    Raises SysenvError.
    """
    if environment.ephemeral == "memory":
        place = environment.path / directory.MEMORY
        try:
            is_first = not place.is_dir()
            place.mkdir(mode=0o755, exist_ok=True)
            has_memory = _mount(place)
            if environment.layers and (has_memory or is_first):
                _begin(environment, place if has_memory else environment.path)
            if has_memory:
                return tuple(_moved(operation, environment, place) for operation in plan)
        except OSError as error:
            raise SysenvError(f"keeping changes in memory failed: {reason(error)}", "add --on-disk") from error
        notice("file systems in memory have no user attributes before Linux 6.6: changes are kept on the disk")
    return tuple(replace(o, volatile=True) if isinstance(o, Overlay) else o for o in plan)


def _begin(environment: Environment, place: Path) -> None:
    """Make the empty upper directories of one on top of another (throwaway.py); its driver may have made some."""
    frozen = list(map(str, environment.frozen()))
    uppers.make(frozen, str(place), frozen, environment.name)


def _mount(place: Path) -> bool:
    """Mount a file system in memory; whether overlayfs can have an upper there."""
    mount = syscalls.new_tmpfs()
    try:
        os.setxattr(f"/proc/self/fd/{mount}", "user.sysenv-ns", b"y")
        # Not a detached one: before Linux 6.15 overlayfs takes only what is mounted somewhere.
        syscalls.attach(mount, str(place))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    finally:
        os.close(mount)
    return True


def _moved(operation: Operation, environment: Environment, place: Path) -> Operation:
    """An overlay with its upper in memory, which starts with the files on disk: a few of the tool's own."""
    if not isinstance(operation, UnionMount):
        return operation
    upper, work = (place / os.path.relpath(path, environment.path) for path in (operation.upper, operation.work))
    work.mkdir(mode=0o755, parents=True)
    if not upper.is_dir():  # it may lie in another one's
        copies.copy_tree(operation.upper, str(upper))
    return replace(operation, upper=str(upper), work=str(work))
