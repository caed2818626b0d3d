"""What status tells of a service, whoever manages it."""

from __future__ import annotations

import os
from contextlib import suppress

from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass


@dataclass(frozen=True)
class Service:
    """A unit that has been started, as status shows it; `main` is 0 without a main process, sizes are bytes."""

    name: str
    active: str
    sub: str
    since: float
    main: int
    memory: int
    log: tuple[str, ...]

    @property
    def runs(self) -> bool:
        """Whether it has a process or stays active without one."""
        return self.active not in ("inactive", "failed")


def memory(pid: int) -> int:
    """The bytes that a process has in memory for itself alone (proc(5), statm); 0 when it is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return 0
