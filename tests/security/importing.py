"""Runs import many times without starting Python anew each time, and says what each of them cost and left behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.support import Tool, line

# As the user: a process that has imported all modules forks for each command. A command that does not end is killed.
_WORKER = """
import gc, json, os, signal, sys
from sysenv_ns import cli, verbs
for name in verbs.NAMES:
    verbs.load(name)
limit = int(sys.argv[1])
gc.freeze()
for line in sys.stdin:
    said = os.memfd_create("said")
    pid = os.fork()
    if pid == 0:
        signal.alarm(limit)
        os.dup2(said, 1); os.dup2(said, 2)
        os.setpgid(0, 0)
        try:
            cli.main(json.loads(line), prog_name="sysenv-ns")
        except SystemExit as end:
            os._exit(end.code)
    _, status, usage = os.wait4(pid, 0)
    text = os.pread(said, 1 << 20, 0).decode(errors="replace")
    os.close(said)
    seconds = usage.ru_utime + usage.ru_stime
    print(json.dumps([os.waitstatus_to_exitcode(status), text, seconds, usage.ru_maxrss * 1024]), flush=True)
"""
_LIMIT = 60  # seconds


@dataclass(frozen=True)
class Outcome:
    """Of one command: its status, what it said, seconds of processor time, bytes of its largest process."""

    status: int
    said: str
    seconds: float
    memory: int


class Worker:
    """A process of a tool's user that runs commands one after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *arguments: str) -> Outcome:
        """One command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        return Outcome(*json.loads(line(self._process, 2 * _LIMIT)))


@contextlib.contextmanager
def worker(tool: Tool) -> Iterator[Worker]:
    """One for this tool."""
    python = tool.launcher.parents[1] / ".venv/bin/python"
    become: dict[str, Any] = tool.account.become()
    with subprocess.Popen(
        [python, "-I", "-c", _WORKER, str(_LIMIT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tool.account.home,
        env=tool.variables(),
        encoding="utf-8",
        umask=0o022,
        **become,
    ) as process:
        yield Worker(process)


def contents(store: Path) -> dict[str, list[str]]:
    """What is in the directories of a store in which an import works."""
    found = {}
    for name in ("", "envs", "layers", "trash", "origins"):
        with contextlib.suppress(FileNotFoundError):
            found[name] = sorted(os.listdir(store / name))
    return found


def state(directory: Path) -> list[tuple[object, ...]]:
    """All of a small tree that a write to it, or one more name for a file in it, would change."""
    paths = [directory, *sorted(directory.rglob("*"))]
    return [(path, *_signature(path.lstat()), _content(path)) for path in paths]


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_mode, status.st_uid, status.st_nlink, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else b""
