"""What is left of a process that was given up: for a failure's message."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any


def left(process: subprocess.Popen[Any]) -> list[str]:
    """The processes of its session, and all that have one of its pipes: state, session, user, command."""
    streams = (process.stdin, process.stdout, process.stderr)
    pipes = {os.readlink(f"/proc/self/fd/{stream.fileno()}") for stream in streams if stream and not stream.closed}
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, session = (directory / "stat").read_text().rpartition(")")[2].split()[:4]
            held = _held(directory, pipes)
            if directory.name != str(os.getpid()) and (held or session == str(process.pid)):
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                waits = (directory / "wchan").read_text()
                holds = f", holds {' '.join(sorted(held))}" if held else ""
                found.append(f"  {directory.name} {state} in {waits}, session {session}{holds}: {command}")
    return found


def _held(directory: Path, pipes: AbstractSet[str]) -> set[str]:
    """The pipes that a process has open, as far as this one may know."""
    held = set()
    with contextlib.suppress(OSError):
        for descriptor in (directory / "fd").iterdir():
            with contextlib.suppress(OSError):
                held.add(os.readlink(descriptor))
    return held & pipes
