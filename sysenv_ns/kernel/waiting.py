"""A parent that waits for a program, unnoticed by terminal and caller; knows no environments.

It passes on signals to the program, stops and continues with it, and ends with its status. Signals of a
terminal go to the whole process group (tty_ioctl(4)), so the program gets them anyway.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import signal, suppress
from sysenv_ns.kernel import children, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import NoReturn

# What the kernel tells the leader of a session alone, when the terminal is closed.
_OF_LEADERS = (signal.SIGHUP, signal.SIGCONT)
# What a process does to itself.
_OWN = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS)

_MAX_DESCRIPTOR = 1 << 30  # more than any is; close_range(2)


def in_child(afterwards: Callable[[], None], unfollowed: Collection[int] = ()) -> None:
    """Return in a child, which will become a program. The parent calls `afterwards` when that has ended, and ends too.

    `unfollowed`: signals that stop the program alone. Raises OSError when there can be no child.
    """
    signals = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *_OWN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    # The kernel reaps the children of who ignores it. Not later: this discards one that is pending (POSIX, sigaction).
    ended = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    parent = os.getpid()
    pid = 0
    try:
        pid = os.fork()
    finally:
        if pid == 0:
            signal.signal(signal.SIGCHLD, ended)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if pid == 0:
        children.end_with(parent)
        return
    try:
        _wait(pid, signals, afterwards, unfollowed)
    finally:
        os._exit(1)


def _wait(
    pid: int, signals: set[signal.Signals], afterwards: Callable[[], None], unfollowed: Collection[int]
) -> NoReturn:
    # Pipes and locks: others wait for who has them, and should not for this process. Not by /proc, which shows this
    # process only in its own process namespace.
    os.closerange(0, _MAX_DESCRIPTOR)
    # The environment runs until this process has ended, so that others have to see it. It is no more than its program,
    # and has nothing of the host's by now.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    status = _status_of(pid, signals, unfollowed)
    with suppress(OSError):
        afterwards()
    os._exit(end_as(os.waitstatus_to_exitcode(status)))


def end_as(code: int) -> int:
    """The exit status of this process, from that of its program; where a signal has ended that, end by the same."""
    if code >= 0:
        return code
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # the program has left its core dump already
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    return 128 - code


def _status_of(pid: int, signals: set[signal.Signals], unfollowed: Collection[int]) -> int:
    """The wait status of the program, once it has ended."""
    while True:
        told = signal.sigwaitinfo(signals)
        if told.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                if os.WSTOPSIG(status) in unfollowed:
                    continue
                os.kill(os.getpid(), signal.SIGSTOP)  # the shell waits for this process
            elif ended:
                return status
        elif told.si_code <= 0 or told.si_signo in _OF_LEADERS:  # from a process, not the kernel (sigaction(2))
            with suppress(ProcessLookupError):
                os.kill(pid, told.si_signo)
