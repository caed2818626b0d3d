"""Runs a function in a forked child and returns its result or raises its error; knows nothing of namespaces."""

from __future__ import annotations

import fcntl
import os
import sys

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import NoneType, opened, signal, suppress
from sysenv_ns.errors import Exhausted, SysenvError, is_exhausted, reason
from sysenv_ns.kernel import outcome, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import BinaryIO, TypeVar

    _T = TypeVar("_T")
    _Here = TypeVar("_Here")


# Calls within each other: one or two for each level of a tree, of which a path has at most half of PATH_MAX.
_DEPTH = 10_000
OUTSIDE = 0  # the number of a parent in another process namespace
_BUFFER = 1 << 18  # bytes of a stream between processes
_PIPE = 1 << 20  # bytes of a pipe, the most that a user may ask for unless root changed it (pipe(7))


class Child:
    """A forked child that runs one function; `wait` or `abandon` must be called once."""

    def __init__(self, function: Callable[[], object], name: str) -> None:
        """`name` is the name of the process."""
        parent = os.getpid()
        self._result, write_end = os.pipe()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(self._result)
            os.close(write_end)
            raise
        if self.pid == 0:
            _become_child(parent, name)
            os.close(self._result)
            _run(function, write_end)
        os.close(write_end)

    def abandon(self) -> None:
        """Wait for its end, and ignore its result."""
        os.close(self._result)
        reap(self.pid)

    def wait(self, kind: type[_T]) -> _T:
        """The function's result, of a type that decoding.py knows; raises its OSError, SysenvError or Unexpected here.

        If it has any result, outcome.prepare was called for its type before.
        """
        with os.fdopen(self._result, "rb") as stream:
            told = stream.read()
        status = reap(self.pid)
        if not told:
            how = "" if status is None else f" (status {status})"
            # By a filter of a sandbox is no sign that something has run out.
            failure = SysenvError if status == -signal.SIGSYS else Exhausted
            raise failure(f"a helper process died{how}", "run it again; if it persists, report it")
        try:
            # A program in a namespace of its own may have got hold of a child that looked into that.
            return outcome.result(told, kind)
        except ValueError as error:
            raise SysenvError(f"unexpected answer from a helper process ({error})", "run it again") from None


def write_all(descriptor: int, data: bytes) -> None:
    """Write all data, also to a pipe that takes a part at a time. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def call(function: Callable[[], _T], kind: type[_T], name: str) -> _T:
    """Run a function in a child and return its result, which is of the type `kind`."""
    outcome.prepare(kind)
    return Child(function, name).wait(kind)


def run(function: Callable[[], None], name: str) -> None:
    """The same for a function without a result."""
    call(function, NoneType, name)


def fed(function: Callable[[BinaryIO], _T], kind: type[_T], name: str, feed: Callable[[BinaryIO], None]) -> _T:
    """The same for a function that reads from a stream what `feed` writes to it here; also raises errors of `feed`."""
    read_end, write_end = _pipe()

    def inside() -> _T:
        os.close(write_end)
        with os.fdopen(read_end, "rb", _BUFFER) as stream:
            return function(stream)

    def here() -> None:
        # Where nobody reads any more the child has ended, and says why.
        with suppress(BrokenPipeError), os.fdopen(write_end, "wb", _BUFFER) as stream:
            feed(stream)

    return beside(inside, kind, name, here, (read_end, write_end))[0]


def drained(
    function: Callable[[BinaryIO], _T], kind: type[_T], name: str, drain: Callable[[BinaryIO], _Here]
) -> tuple[_T, _Here]:
    """The same for a function that writes to a stream what `drain` reads from it here; returns both results."""
    read_end, write_end = _pipe()

    def inside() -> _T:
        os.close(read_end)
        with os.fdopen(write_end, "wb", _BUFFER) as stream:
            return function(stream)

    def here() -> _Here:
        with os.fdopen(read_end, "rb", _BUFFER) as stream:
            return drain(stream)

    return beside(inside, kind, name, here, (write_end, read_end))


def _pipe() -> tuple[int, int]:
    """A pipe that holds more than others, so that whoever waits at one end is woken less often."""
    read_end, write_end = os.pipe()
    with suppress(OSError):  # the user has many pipes that do
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _PIPE)
    return read_end, write_end


def beside(
    inside: Callable[[], _T], kind: type[_T], name: str, here: Callable[[], _Here], ends: tuple[int, ...] = ()
) -> tuple[_T, _Here]:
    """Run one function in a child and one here; returns both results.

    `ends` are those of a pipe, if there is one: of the child, which is closed here, and of this process, which `here`
    closes.
    """
    theirs, ours = ends[:1], ends[1:]
    try:
        outcome.prepare(kind)
        child = Child(inside, name)
    except BaseException:
        for end in ours:
            os.close(end)
        raise
    finally:
        for end in theirs:
            os.close(end)
    try:
        result = here()
    except BaseException:
        child.abandon()  # its stream has ended: so does it
        raise
    return child.wait(kind), result


class SpawnedProgram:
    """A started program with its output captured; `complaint` must be called once."""

    def __init__(self, path: str, arguments: list[str], variables: Mapping[str, str]) -> None:
        """Raises OSError when it cannot be executed."""
        self._said, write_end = os.pipe()
        try:
            actions = [(os.POSIX_SPAWN_DUP2, write_end, 1), (os.POSIX_SPAWN_DUP2, write_end, 2)]
            self._pid = os.posix_spawn(path, arguments, variables, file_actions=actions)
        except OSError:
            os.close(self._said)
            raise
        finally:
            os.close(write_end)

    def complaint(self) -> str | None:
        """Wait for its end; its output, or else its status, if it failed; None on success.

        Where the caller ignores SIGCHLD, it has failed if it has said something.
        """
        with os.fdopen(self._said, "r", errors="replace") as stream:
            said = stream.read().strip()
        status = reap(self._pid)
        return None if status == 0 or (status is None and not said) else said or f"status {status}"


def complaint(path: str, arguments: list[str], variables: Mapping[str, str]) -> str | None:
    """Run a program; its output, or else its status, if it failed; None on success."""
    try:
        program = SpawnedProgram(path, arguments, variables)
    except OSError as error:
        if is_exhausted(error):
            raise
        return reason(error)
    return program.complaint()


def said(path: str, arguments: list[str], variables: Mapping[str, str], limit: int) -> str:
    """What a program says, at most so many bytes of it. Raises OSError when it cannot be executed."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as stream:
        with opened(write_end):
            actions = [(os.POSIX_SPAWN_DUP2, write_end, 1)]
            pid = os.posix_spawn(path, arguments, variables, file_actions=actions)
        text = stream.read(limit)
    reap(pid)  # after the stream is closed, so that it can end
    return text.decode("utf-8", "replace")


def start_detached(function: Callable[[], object]) -> int:
    """Run `function` in a process that is not our child: a program may wait for all its children.

    Returns the process that starts it, for `reap`; its status is not 0 if that failed.
    """
    starter = os.fork()
    if starter == 0:
        status = 1
        try:
            if os.fork() == 0:
                function()
            status = 0
        finally:
            os._exit(status)
    return starter


def leave_session(kept: Collection[int], name: str) -> None:
    """Let go of everything of a session: terminal, pipes that others read to their end, directory, locks."""
    os.setsid()
    syscalls.prctl(syscalls.PR_SET_NAME, name[:15])
    os.chdir("/")
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in kept:
            with suppress(OSError):  # the one that listed them
                os.close(descriptor)


def reap(pid: int) -> int | None:
    """Wait for a child; its exit status, or None if the caller ignores SIGCHLD, which the command inherits."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)


def forbid_tracing() -> None:
    """Let only real root trace this process or look into its memory and descriptors, until it executes a program
    (PR_SET_DUMPABLE, prctl(2)): who is root in a namespace may do that to whatever comes in from outside.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def end_with(parent: int) -> None:
    """Let this child be killed when its parent ends. A change of ids resets this, prctl(2)."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (parent, OUTSIDE):  # it died before the line above
        os._exit(1)


def _become_child(parent: int, name: str) -> None:
    end_with(parent)
    syscalls.prctl(syscalls.PR_SET_NAME, name[:15])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it may have children of its own
    sys.setrecursionlimit(_DEPTH)


def _run(function: Callable[[], object], write_end: int) -> None:
    """Never returns: otherwise the child would run its parent's code a second time."""
    try:
        told, _ = outcome.told(function)
        write_all(write_end, told)
        os._exit(0)
    except KeyboardInterrupt:
        os._exit(130)
    finally:
        os._exit(1)
