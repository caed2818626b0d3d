"""The process that the kernel asks about system calls which a filter cannot decide alone; answers.py has what it does.

It is beside the session, and asked while the calling thread waits (seccomp_unotify(2)). It stays on the host's side of
all namespaces, so it holds no mount and keeps no environment running, and it ends with the last process under the
filter. It acts for a caller with the caller's identity and capabilities, in the caller's root (caller.py). It also
syncs what the session changes (writeback.py).
"""

from __future__ import annotations

import _socket  # only the C half: the other takes a start's time to import
import gc
import os
import select
import struct

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import Protocol, signal, suppress
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import answers, children, syscalls
from sysenv_ns.kernel.answers import Action, Answer, Calls, Serve
from sysenv_ns.kernel.caller import CallingThread
from sysenv_ns.kernel.syscalls import Notification
from sysenv_ns.kernel.writeback import INTERVAL, Writeback
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _T = TypeVar("_T")

_NUMBER = 20  # digits of an inode, at most


class Watch(Protocol):
    """Something else that the process watches, on the host's side, as long as it lives."""

    def open(self) -> int | None:
        """A descriptor that is readable when there is something to do; None for never. Raises OSError."""

    def handle(self) -> None:
        """Do it, quickly. Raises OSError."""


class Supervisor:
    """The process, waiting for the listener of a filter; without one it ends together with this object's process."""

    def __init__(
        self, calls: Calls, changes: Path | None = None, watch: Watch | None = None, visitors: Serve | None = None
    ) -> None:
        """`changes`: the upper directory of the overlay over /, if changes are to survive a power cut.

        `visitors`: serves, in a process of its own, programs inside that run as the user (visits.py).
        """
        self._socket, theirs = _socket.socketpair()
        self._starter = children.start_detached(lambda: _serve(theirs, calls, changes, watch, visitors))
        theirs.close()

    def wait(self) -> None:
        """Wait until it has started, before anything depends on it. Raises SysenvError."""
        if children.reap(self._starter):
            raise SysenvError("the system call supervisor cannot be started", "end some of your processes")

    def hand_over(self, listener: int) -> None:
        """Let it answer calls at `listener`, which is closed here. Raises SysenvError if it has ended."""
        rights = struct.pack("i", listener)
        try:
            # So it knows the mounts of the session, without holding them.
            mounts = os.stat("/proc/self/ns/mnt").st_ino
            self._socket.sendmsg([str(mounts).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        except OSError as error:
            raise SysenvError(f"the system call supervisor has ended: {reason(error)}", "try again") from error
        finally:
            self._socket.close()
            os.close(listener)


def _serve(
    connection: _socket.socket, calls: Calls, changes: Path | None, watch: Watch | None, visitors: Serve | None
) -> None:
    gc.freeze()  # what it shares with the session shall stay shared
    gc.enable()
    children.leave_session({connection.fileno()}, "sysenv-ns-calls")
    mounts, ancillary, _, _ = connection.recvmsg(_NUMBER, _socket.CMSG_SPACE(4))
    connection.close()
    if not ancillary:  # the session failed before it came to its command
        return
    (listener,) = struct.unpack("i", ancillary[0][2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    watched = watch.open() if watch is not None else None
    if watched is not None:
        poll.register(watched, select.POLLIN)
    writeback = _opened(lambda: Writeback(changes.parent)) if changes else None
    names = _opened(lambda: answers.UpperNames.of(changes, listener)) if changes else None
    visit = answers.visits_by(visitors, int(mounts)) if visitors else None
    while True:
        ready = dict(poll.poll(int(INTERVAL * 1000) if writeback else None))
        with suppress(OSError):  # the limit of processes, or a disk that fails: the next time, perhaps
            if writeback:
                writeback.due()
            if watch is not None and watched in ready:
                watch.handle()
        if listener not in ready:
            continue
        if not ready[listener] & select.POLLIN:  # POLLHUP: no process is under the filter any more
            return
        try:
            call = syscalls.seccomp_receive(listener)
            action = answers.plan(call, calls, names, visit)
            if action is None:
                syscalls.seccomp_respond(listener, call.ident, None)
            else:
                _act(listener, call, action)
        except OSError:  # its thread was killed meanwhile
            continue


def _opened(opener: Callable[[], _T]) -> _T | None:
    try:
        return opener()
    except OSError:
        return None


def _act(listener: int, call: Notification, action: Action) -> None:
    """In a worker: a caller that waits, for a slow file system for example, must not delay the others."""
    try:
        worker = os.fork()
    except OSError:
        worker = -1
    if worker > 0:
        return
    answer: Answer = None
    try:
        if worker == 0:
            children.forbid_tracing()  # by who is in the namespaces that it enters
            answer = action(CallingThread.of(listener, call))
    except OSError:  # it could not become the caller: the kernel shall refuse it
        pass
    finally:
        try:
            syscalls.seccomp_respond(listener, call.ident, answer if isinstance(answer, int) else None)
            if callable(answer):
                os.close(listener)
                answer()
        finally:
            if worker == 0:
                os._exit(0)
