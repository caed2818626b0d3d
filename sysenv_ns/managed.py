"""The services of an environment with systemd as its process 1, as its own systemctl and journalctl tell of them.

These run inside, as its root. What they say is the environment's, and is checked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress

from sysenv_ns import init, joined, service
from sysenv_ns.command import own_variables
from sysenv_ns.environment import running
from sysenv_ns.environment.description import Environment
from sysenv_ns.host import services
from sysenv_ns.inside import boot
from sysenv_ns.kernel import cgroups, children
from sysenv_ns.records import dataclass
from sysenv_ns.service import Service

_SYSTEMCTL, _JOURNALCTL = f"{services.PROGRAMS}/systemctl", f"{services.PROGRAMS}/journalctl"
_KINDS = ("*.service", "*.socket", "*.timer")
_FIELDS = ("Id", "LoadState", "ActiveState", "SubState", "StateChangeTimestampMonotonic", "MainPID", "ControlGroup")
_MOST = 200  # units that are shown, each with its last lines
_LINES = 3  # of output
_LIMIT = 1 << 20  # bytes of an answer
_LOOK = 30  # seconds for all of it


@dataclass(frozen=True)
class _Managed:
    """What systemd says of a unit; numbers of processes are those inside."""

    service: Service
    group: str  # the directory of its control group, below that of the environment


def of(environment: Environment) -> tuple[Service, ...]:
    """The services that have been started, without those that every boot has. Raises SysenvError, OSError."""
    rows = joined.call(environment, lambda: _ask(environment.name), tuple[tuple[str, str], ...], _LOOK) or ()
    told = [found for state, log in rows if (found := decoded(state, log, time.time() - time.monotonic()))]
    pid = init.number(environment)
    if not told or pid is None:
        return ()
    top = os.path.dirname(cgroups.path_of(pid) or "/")
    groups = {process.pid: _group(process.pid, top) for process in running.processes(environment)}
    numbers = {inside[-1]: process for process in groups if (inside := init.numbers_of(process))}
    return tuple(_on_host(found, groups, numbers) for found in told)


def _group(pid: int, top: str) -> str:
    """The control group of a process, below that of the environment; "" if it is in none of its services."""
    with suppress(OSError):
        path = cgroups.path_of(pid) or ""
        if path.startswith(f"{top}/"):
            return path[len(top) :]
    return ""


def _on_host(told: _Managed, groups: Mapping[int, str], numbers: Mapping[int, int]) -> Service:
    found = told.service
    own = [pid for pid, group in groups.items() if told.group and f"{group}/".startswith(f"{told.group}/")]
    main = numbers.get(found.main, 0) if found.main else 0
    memory = sum(map(service.memory, own))
    return Service(found.name, found.active, found.sub, found.since, main, memory, found.log)


def _ask(name: str) -> tuple[tuple[str, str], ...]:
    """What is said of each unit, with the end of its output; inside."""
    variables = {key: value for key, value in own_variables(name).items() if key != services.OFFLINE}
    show = [_SYSTEMCTL, "show", f"--property={','.join(_FIELDS)}", *_KINDS]
    rows: list[tuple[str, str]] = []
    for state in children.said(_SYSTEMCTL, show, variables, _LIMIT).split("\n\n"):
        fields = _fields(state)
        if is_shown(fields) and len(rows) < _MOST:
            log = [_JOURNALCTL, "--quiet", "--no-pager", "--output=cat", f"--lines={_LINES}", f"--unit={fields['Id']}"]
            rows.append((state, children.said(_JOURNALCTL, log, variables, _LIMIT)))
    return tuple(rows)


def is_shown(fields: Mapping[str, str]) -> bool:
    """Whether a unit with these properties is one that somebody has started. Pure."""
    unit = fields.get("Id", "")
    if not unit or unit.startswith("-") or fields.get("LoadState") != "loaded" or boot.is_needed(unit):
        return False
    return fields.get("ActiveState") != "inactive"


def decoded(state: str, log: str, boot_time: float) -> _Managed | None:
    """A unit from what systemctl and journalctl say; None for what is none. Pure."""
    fields = _fields(state)
    if not is_shown(fields):
        return None
    with suppress(ValueError):
        changed = int(fields.get("StateChangeTimestampMonotonic") or 0) / 1e6
        found = Service(
            fields["Id"],
            fields["ActiveState"],
            fields.get("SubState", ""),
            boot_time + changed if changed else 0.0,
            int(fields.get("MainPID") or 0),
            0,
            tuple(log.splitlines()[-_LINES:]),
        )
        return _Managed(found, fields.get("ControlGroup", ""))
    return None


def _fields(state: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in state.splitlines())
    return {key: value for key, equals, value in pairs if equals}
