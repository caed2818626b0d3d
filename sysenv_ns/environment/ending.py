"""Waits for processes of an environment that are ending; finds none.

The last process of a mount namespace takes its mounts down after it has left it, so that nobody can see any more what
it had mounted: in do_exit(), exit_task_namespaces() comes before exit_task_work(), which does the unmounting, and
exit_notify(), which a descriptor of the process tells of. Mounting the same upper before that is what the kernel warns
of ("in-use"), or refuses. It lasts as long as it takes to write out all of the file system that the upper lies on
(ovl_sync_fs()), seconds on a busy disk, minutes on a slow one.
"""

from __future__ import annotations

import os
import select
import time

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened
from sysenv_ns.kernel import namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sysenv_ns.environment.description import Environment
    from sysenv_ns.environment.state import State

_PATIENCE = 3.0  # seconds for processes that may be any environment's
_WRITING_PATIENCE = 300.0  # seconds for those of this one
_BETWEEN = 0.5  # seconds


def wait(pids: Sequence[int], environment: Environment, state: State | None, tell: Callable[[str], None]) -> None:
    """Wait until those of these processes that are the environment's have ended, and a moment for the others.

    `state`: what its state file says. Root's processes look all the same: there the kernel is asked for the mount.
    """
    ours = [pid for pid in pids if state is not None and _user_namespace(pid) == state.user_namespace]
    left = [pid for pid in _ending(pids, _PATIENCE) if pid in ours]
    if not left or not _holds(environment):
        return
    tell(f"the last session of {environment.name} is still being written to the disk: waiting for that")
    deadline = time.monotonic() + _WRITING_PATIENCE
    while left and time.monotonic() < deadline and _holds(environment):
        left = _ending(left, _BETWEEN)


def _holds(environment: Environment) -> bool:
    if not environment.by_root or os.geteuid() != 0:
        return True
    from sysenv_ns.kernel import overlay  # seldom

    return overlay.is_mounted(environment.upper)


def _ending(pids: Sequence[int], patience: float) -> list[int]:
    """Those of these processes that have not ended within so many seconds."""
    deadline = time.monotonic() + patience
    return [pid for pid in pids if not _has_ended(pid, deadline)]


def _has_ended(pid: int, deadline: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # it is gone
        return True
    with opened(descriptor):
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        return bool(ended.poll(max(0, int(1000 * (deadline - time.monotonic())))))


def _user_namespace(pid: int) -> int | None:
    """The identity of a process's user namespace, which it keeps to its end; None if it is not ours to see."""
    try:
        descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    with opened(descriptor):
        return namespace.identity(descriptor)
