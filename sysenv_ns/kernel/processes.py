"""What /proc says of a process, so that another one with the same number is not mistaken for it."""

from __future__ import annotations

from sysenv_ns.paths import Path


def started_at(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, in clock ticks since boot (proc_pid_stat(5)); None for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The command name, in parentheses, may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def no_new_privileges() -> bool:
    """Whether no program can give this process more rights (PR_SET_NO_NEW_PRIVS), as in many containers."""
    return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()
