"""Runs a function in a forked child and hands its result or its error back; knows nothing of namespaces."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

# Not `import prctl`: the Python half of python-prctl fails at import on kernels with capabilities that it
# has no name for (it forgot to import warnings); its C half is all that is needed.
import _prctl

from sysenv_ns.errors import SysenvError


class Child:
    """A forked child that runs one function; `wait` must be called once."""

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

    def wait(self) -> object:
        """The function's result (anything JSON can carry); raises its OSError or SysenvError here."""
        with os.fdopen(self._result, "rb") as stream:
            report = stream.read()
        status = reap(self.pid)
        if not report:
            how = "" if status is None else f" (status {status})"
            raise SysenvError(f"a helper process died{how}", "run it again; if it persists, report it")
        return _unpack(json.loads(report))


def call(function: Callable[[], object], name: str) -> object:
    """Run `function` in a child and return its result (anything JSON can carry)."""
    return Child(function, name).wait()


def reap(pid: int) -> int | None:
    """Wait for a child; its exit status, or None when the caller's SIGCHLD is ignored, which the command inherits."""
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status)


def _become_child(parent: int, name: str) -> None:
    _prctl.prctl(_prctl.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    _prctl.prctl(_prctl.PR_SET_NAME, name[:15])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # it may have children of its own


def _run(function: Callable[[], object], write_end: int) -> None:
    """Never returns: a child that came back would run its parent's code a second time."""
    try:
        try:
            report: dict[str, object] = {"result": function()}
        except SysenvError as error:
            report = {"message": error.message, "hint": error.hint, "exit_status": error.exit_status}
        except OSError as error:
            paths = [None if p is None else os.fsdecode(p) for p in (error.filename, error.filename2)]
            report = {"errno": error.errno, "strerror": error.strerror, "paths": paths}
        except KeyboardInterrupt:
            os._exit(130)
        view = memoryview(json.dumps(report).encode())
        while view:
            view = view[os.write(write_end, view) :]
        os._exit(0)
    finally:
        os._exit(1)


def _unpack(report: dict[str, object]) -> object:
    if "message" in report:
        status = report["exit_status"]
        raise SysenvError(str(report["message"]), str(report["hint"]), status if isinstance(status, int) else None)
    if "errno" in report:
        paths = report["paths"]
        assert isinstance(paths, list)
        raise OSError(report["errno"], report["strerror"], paths[0], None, paths[1])
    return report["result"]
