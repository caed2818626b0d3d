"""Gives who enters another root by chroot(2) the host's device nodes there, where mknod(2) could only leave files.

They are bound over the files, or over new ones where there are none, for as long as somebody is in that root: a name on
which something is mounted can be neither deleted nor replaced, and nobody outside shall meet that. So they have to be
gone before the parent of the caller is told of its end, as `chroot ROOT COMMAND; rm -rf ROOT` goes on at once: its
tracer is told first (ptrace(2), "Death under ptrace"). To look at each unlink(2) instead would make every `rm -rf` two
and a half times as slow.

All functions are for a process that is what the caller is, in its root: it may import nothing there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import stat
import time
from collections.abc import Callable, Collection, Iterator

from sysenv_ns.basics import opened
from sysenv_ns.kernel import children, syscalls, unotify

# By their numbers (Linux's Documentation/admin-guide/devices.txt). A ptmx works beside the pts that it belongs to only.
_NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MADE_HERE = 0  # no program makes a file that nobody may use
_ENDED = (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED)
_TRIES, _PAUSE = 100, 0.01  # seconds; others of these hold the lock alone for a moment


def furnish(path: bytes, caller: int, processes: int) -> Callable[[], None] | None:
    """Bind the nodes in a directory that the process `caller` is about to make its root; what is to be done afterwards.

    None: it has nodes of its own, or no programs. `processes` is a descriptor of a /proc that shows all of them.
    Raises OSError.
    """
    root = os.open(path, _DIRECTORY)
    devices = os.open("dev", _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    # Who has bound nodes holds a shared lock while its caller is there: the last one takes them away. Not of the root
    # itself, which the caller may have locked (flock(1)).
    is_first = _is_alone(devices)
    _share(devices)
    if is_first and not _is_lacking(root, devices):
        return None
    for name in _NODES:
        with contextlib.suppress(OSError):  # the host has none, or the root cannot be written
            if _has_place(devices, name):
                _bind(name, devices)
    with contextlib.suppress(OSError):  # somebody else traces it
        unotify.ptrace(unotify.PTRACE_SEIZE, caller)
        return lambda: _look_after(root, devices, processes, lambda: _await_traced(caller), caller)
    process = os.pidfd_open(caller)
    return lambda: _look_after(root, devices, processes, lambda: _await([process]), caller)


def _is_alone(devices: int) -> bool:
    """Whether nobody else holds the lock: then this process alone has it now, and otherwise not even shared any more.

    So of two that ask at once one is alone (flock(2): a conversion removes the lock that was there first).
    """
    try:
        fcntl.flock(devices, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _share(devices: int) -> None:
    """Hold the lock as others do. Raises OSError where somebody else keeps it, who may be anybody that can read."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(devices, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE)
    raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))


def _is_lacking(root: int, devices: int) -> bool:
    """Whether the null device is a file; or missing, as mmdebstrap and images of containers leave it."""
    try:
        return stat.S_ISREG(os.stat("null", dir_fd=devices, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return os.access("bin", os.X_OK, dir_fd=root)  # what a daemon locks itself up in has none


def _has_place(devices: int, name: str) -> bool:
    """Whether there is a file to bind a node over; one that is made here is known by its mode. Raises OSError."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=devices, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MADE_HERE, dir_fd=devices))
        return True


def _bind(name: str, devices: int) -> None:
    with opened(syscalls.open_tree(f"/dev/{name}", recursive=False)) as node:
        if os.fstat(node).st_rdev == os.makedev(*_NODES[name]):
            with opened(os.open(name, _PLACE, dir_fd=devices)) as place:
                syscalls.move_mount(node, place, name)


def _look_after(root: int, devices: int, processes: int, wait: Callable[[], None], caller: int) -> None:
    """Take the nodes away when the caller has ended and nobody else is in that root. Raises OSError."""
    children.forbid_tracing()
    wait()
    while _is_alone(devices):
        if not (present := list(_inhabitants(root, processes))):
            _take_away(devices)
            return
        _share(devices)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(caller, 0)  # its parent need not wait for a daemon that it has left
        _await(present)


def _take_away(devices: int) -> None:
    os.fchdir(devices)
    for name in _NODES:
        with contextlib.suppress(OSError):  # no more: who came at the same moment has bound one over the other's
            while True:
                syscalls.umount(name, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        with contextlib.suppress(OSError):
            if os.lstat(name).st_mode == stat.S_IFREG | _MADE_HERE:
                os.unlink(name)


def _await(present: Collection[int]) -> None:
    """Wait for the end of all processes behind these descriptors."""
    for process in present:
        select.select([process], [], [])
        os.close(process)


def _await_traced(pid: int) -> None:
    """Wait for the end of a process, which is let do what it would do; its parent is told when it is waited for here.

    Raises OSError.
    """
    while True:
        told = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
        if told is None or told.si_code in _ENDED:
            return
        number, event = told.si_status & 0xFF, told.si_status >> 8
        stopped = event == unotify.PTRACE_EVENT_STOP and number != signal.SIGTRAP
        with contextlib.suppress(ProcessLookupError):  # it has been killed meanwhile
            if stopped:
                unotify.ptrace(unotify.PTRACE_LISTEN, pid)
            else:
                unotify.ptrace(unotify.PTRACE_CONT, pid, 0 if event else number)


def _inhabitants(root: int, processes: int) -> Iterator[int]:
    """Descriptors of the processes whose root this is."""
    status = os.fstat(root)
    for name in os.listdir(processes):
        with contextlib.suppress(OSError, ValueError):
            if os.path.samestat(os.stat(f"{name}/root", dir_fd=processes), status):
                yield os.pidfd_open(int(name))
