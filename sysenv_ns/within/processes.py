"""What is known of processes by their numbers, and signals for them; which unit they belong to, states.py knows."""

from __future__ import annotations

import contextlib
import os
import signal


def lives(pid: int, started: int) -> bool:
    """Whether this process is there, and no other one that got its number, and no zombie."""
    return pid > 0 and started_at(pid) == started and started > 0


def started_at(pid: int) -> int:
    """Clock ticks since boot at which a process started (field 22 of proc(5) stat); 0 when it is gone or a zombie."""
    found = stat(pid)
    return 0 if not found or found[0] in "ZX" else int(found[19])


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return []


def number_in(file: str) -> int:
    """The number in a file that a daemon has written; 0 where there is none."""
    try:
        # A daemon can make a pipe of it, which nobody writes to.
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:
            return int((stream.read(32) or b"").strip() or 0)
    except (OSError, ValueError):
        return 0


def send(pids: list[int], *numbers: signal.Signals) -> None:
    """Send signals to those of these that are still there."""
    for pid in pids:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
