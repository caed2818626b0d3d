"""What /proc says of processes: which there are, whose children they are, what they execute, and when one has started:
another one with the same number shall not be mistaken for it.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True)
class Process:
    """A process, as /proc shows it."""

    pid: int
    command: str


def started_at(pid: int) -> int | None:
    """When a process has started, in clock ticks since boot; None for one that has ended."""
    fields = _fields(pid)
    return None if not fields or fields[0] in ("Z", "X") else int(fields[19])


def parent_of(pid: int) -> int:
    """The number of a process's parent. Raises ProcessLookupError."""
    fields = _fields(pid)
    if not fields:
        raise ProcessLookupError
    return int(fields[1])


def _fields(pid: int) -> list[str]:
    """Those of /proc/PID/stat from the third one on, the state (proc_pid_stat(5)); none when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    # The command name, in parentheses, may hold spaces and parentheses itself.
    return text.rpartition(")")[2].split()


def no_new_privileges() -> bool:
    """Whether no program can give this process more rights (PR_SET_NO_NEW_PRIVS), as in many containers."""
    return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()


def described(pids: Iterable[int]) -> tuple[Process, ...]:
    """These processes, with what they execute as far as it can be seen."""
    return tuple(Process(pid, command_of(pid)) for pid in pids)


def numbers() -> Iterator[int]:
    """The numbers of all processes."""
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def command_of(pid: int) -> str:
    """What a process executes, with arguments; its name where that is not to be seen, "" when it is gone."""
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
        return text.decode(errors="replace") or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""
