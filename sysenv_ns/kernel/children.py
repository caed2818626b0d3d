"""Runs a function in a forked child and hands its result or its error back; knows nothing of namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping

# Not `import prctl`: the Python half of python-prctl fails at import on kernels with capabilities that it
# has no name for (it forgot to import warnings); its C half is all that is needed.
import _prctl

from sysenv_ns.errors import SysenvError, reason

# Calls within each other: one or two for each level of a tree, of which a path has at most half of PATH_MAX.
_DEPTH = 10_000


class Child:
    """A forked child that runs one function; `wait` or `abandon` must be called once."""

    def __init__(self, function: Callable[[], object], name: str) -> None:
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
        """Wait for its end, whatever it was: what it has to say is not wanted any more."""
        os.close(self._result)
        reap(self.pid)

    def wait(self) -> object:
        """The function's result (anything JSON can carry); raises its OSError or SysenvError here."""
        with os.fdopen(self._result, "rb") as stream:
            report = stream.read()
        status = reap(self.pid)
        if not report:
            how = "" if status is None else f" (status {status})"
            raise SysenvError(f"a helper process died{how}", "run it again; if it persists, report it")
        return _unpack(json.loads(report))


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, also to a pipe that takes a part at a time. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def call(function: Callable[[], object], name: str) -> object:
    """Run `function` in a child and return its result (anything JSON can carry)."""
    return Child(function, name).wait()


def complaint(path: str, arguments: list[str], variables: Mapping[str, str]) -> str | None:
    """Run a program and return what it said, or its status; None when it ended well."""
    read_end, write_end = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, write_end, 1), (os.POSIX_SPAWN_DUP2, write_end, 2)]
        pid = os.posix_spawn(path, arguments, variables, file_actions=actions)
    except OSError as error:
        os.close(read_end)
        return reason(error)
    finally:
        os.close(write_end)
    with os.fdopen(read_end, "r", errors="replace") as stream:
        said = stream.read().strip()
    _, status = os.waitpid(pid, 0)
    return None if status == 0 else said or f"status {os.waitstatus_to_exitcode(status)}"


def start_detached(function: Callable[[], object]) -> int:
    """Run `function` in a process that is nobody's child: a program may wait for all of its own.

    Returns the process that starts it, for `reap`; its status is not 0 when it could not.
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
    """Keep nothing of a session: no terminal, no pipe whose other end waits for its end, no directory, no lock."""
    os.setsid()
    _prctl.prctl(_prctl.PR_SET_NAME, name[:15])
    os.chdir("/")
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in kept:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(descriptor)


def reap(pid: int) -> int | None:
    """Wait for a child; its exit status, or None when the caller's SIGCHLD is ignored, which the command inherits."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)


def end_with(parent: int) -> None:
    """Let this child be killed when its parent ends. Whoever changes its ids has to say so again, prctl(2)."""
    _prctl.prctl(_prctl.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _become_child(parent: int, name: str) -> None:
    end_with(parent)
    _prctl.prctl(_prctl.PR_SET_NAME, name[:15])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it may have children of its own
    sys.setrecursionlimit(_DEPTH)


def _run(function: Callable[[], object], write_end: int) -> None:
    """Never returns: a child that came back would run its parent's code a second time."""
    try:
        try:
            report: dict[str, object] = {"result": function()}
        except SysenvError as error:
            report = {"message": error.message, "hint": error.hint, "exit_status": error.exit_status}
        except RecursionError:
            report = {
                "message": "directories lie too deep in each other",
                "hint": "take them apart",
                "exit_status": None,
            }
        except OSError as error:
            paths = [_as_path(name) for name in (error.filename, error.filename2)]
            report = {"errno": error.errno, "strerror": error.strerror, "paths": paths}
        except KeyboardInterrupt:
            os._exit(130)
        write_all(write_end, json.dumps(report).encode())
        os._exit(0)
    finally:
        os._exit(1)


def _as_path(name: str | bytes | int | None) -> str | None:
    """A name of an OSError as JSON takes it; a call on a descriptor has that."""
    return f"descriptor {name}" if isinstance(name, int) else name if name is None else os.fsdecode(name)


def _unpack(report: dict[str, object]) -> object:
    if "message" in report:
        status = report["exit_status"]
        raise SysenvError(str(report["message"]), str(report["hint"]), status if isinstance(status, int) else None)
    if "errno" in report:
        paths = report["paths"]
        assert isinstance(paths, list)
        raise OSError(report["errno"], report["strerror"], paths[0], None, paths[1])
    return report["result"]
