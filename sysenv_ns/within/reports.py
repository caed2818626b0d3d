"""The output of status, show, list-units and is-enabled, in the words of systemctl(1); changes nothing."""

from __future__ import annotations

import contextlib
import os
import time

from sysenv_ns.within import addresses, logs, orders, passing, processes, states, timer_unit, units
from sysenv_ns.within.states import UnitState
from sysenv_ns.within.units import OrderError, Unit

_DOTS = {"active": "●", "reloading": "↻", "failed": "x", "activating": "●", "deactivating": "●"}
_SPANS = ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"))


def enabled(unit: Unit) -> str:
    """enabled, disabled or static, by its links."""
    if units.is_enabled(unit.name):
        return "enabled"
    can = any(section == "Install" for section, _ in unit.settings) or not unit.path
    return "disabled" if can else "static"


def status(unit: Unit, count: int) -> list[str]:
    """The lines of `systemctl status`, with so many lines of the log."""
    state = states.read(unit.name)
    place = unit.path or f"/etc/init.d/{unit.name.rpartition('.')[0]}"
    found = [f"{_DOTS.get(state.active, '○')} {unit.name} - {unit.description}"]
    found.append(f"     Loaded: loaded ({place}; {enabled(unit)})")
    found += [f"    Drop-In: {path}" for path in unit.drop_ins]
    found.append(f"     Active: {activity(state)}")
    found += _triggers(unit, state)
    pids = orders.processes_of(state) if unit.type == "service" else []
    if state.main_pid:
        found.append(f"   Main PID: {state.main_pid} ({command_name(state.main_pid)})")
    if state.said:
        found.append(f'     Status: "{_shown(state.said)}"')
    if pids:
        found.append(f"      Tasks: {sum(map(_threads, pids))}")
        found.append(f"     Memory: {_size(sum(map(memory, pids)))}")
        found.append("  Processes: " + "\n             ".join(f"{pid} {command_line(pid)}" for pid in pids))
    lines = logs.last(unit.name, count)
    return [*found, *([""] if lines else []), *lines]


def _triggers(unit: Unit, state: UnitState) -> list[str]:
    """When a timer elapses, what a socket listens on, and what they start; what starts a service."""
    with contextlib.suppress(OrderError):
        if unit.type == "timer":
            coming = f"{moment(state.next)}; {span(state.next - time.time())} left" if state.next else "n/a"
            return [f"    Trigger: {coming}", f"   Triggers: {timer_unit.target(unit)}"]
        if unit.type == "socket":
            listens = [f"     Listen: {address.shown} ({address.kind})" for address in addresses.of(unit)]
            return [f"   Triggers: {passing.target(unit)}", *listens]
    return [f"TriggeredBy: {name}" for name in orders.activating(unit.name)]


def activity(state: UnitState) -> str:
    """For example: active (running) since Sun 2026-11-29 04:43:07 UTC; 3s ago."""
    sub = state.sub if state.active != "failed" else f"Result: {state.result}"
    text = f"{state.active} ({sub})"
    if state.since:
        text += f" since {moment(state.since)}; {span(time.time() - state.since)} ago"
    return text if not state.code or state.active != "failed" else f"{text}; {state.code}"


def moment(seconds: float) -> str:
    """A time since the epoch as systemd shows it."""
    return time.strftime("%a %Y-%m-%d %H:%M:%S %Z", time.localtime(seconds))


def span(seconds: float) -> str:
    """A span of time in its two largest units."""
    parts: list[str] = []
    left = max(0, int(seconds))
    for length, name in _SPANS:
        if left >= length or (name == "s" and not parts):
            parts.append(f"{left // length}{name}")
            left %= length
    return " ".join(parts[:2])


def properties(name: str, unit: Unit | None, state: UnitState) -> dict[str, str]:
    """What `systemctl show` knows of a unit; others than these are not made up."""
    found = {
        "Id": name,
        "Names": name,
        "LoadState": "loaded" if unit else "not-found",
        "ActiveState": state.active,
        "SubState": state.sub,
        "MainPID": str(state.main_pid),
        "Result": state.result,
        "NRestarts": str(state.restarts),
        "InvocationID": state.invocation,
        "StatusText": _shown(state.said),
        "NeedDaemonReload": "no",
    }
    if unit is not None:
        found |= {
            "Description": unit.description,
            "FragmentPath": unit.path,
            "DropInPaths": " ".join(unit.drop_ins),
            "UnitFileState": enabled(unit),
            "Type": unit.text("Service", "Type", "simple"),
            "Restart": unit.text("Service", "Restart", "no"),
            "User": unit.text("Service", "User"),
            "PIDFile": unit.text("Service", "PIDFile"),
            "CanStart": "yes" if unit.type in ("service", "target", "timer", "socket") else "no",
            "CanReload": "yes" if unit.raw("Service", "ExecReload") else "no",
            "ActiveEnterTimestamp": moment(state.since) if state.since and state.is_active else "",
        }
    return found


def command_name(pid: int) -> str:
    """What a process is called."""
    return _shown(_content(pid, "comm"))


def command_line(pid: int) -> str:
    """A process's arguments."""
    return _shown(_content(pid, "cmdline").replace("\0", " ")) or f"[{command_name(pid)}]"


def _shown(text: str) -> str:
    """What a process chose, on one line."""
    return "".join(map(logs.shown, text.strip()))


def memory(pid: int) -> int:
    """The bytes that a process has in memory for itself alone: resident without shared pages."""
    fields = _content(pid, "statm").split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 2 else 0


def _threads(pid: int) -> int:
    found = processes.stat(pid)
    return int(found[17]) if found else 0


def _size(number: float) -> str:
    for unit in "BKMG":
        if number < 1024 or unit == "G":
            return f"{number:.1f}{unit}" if unit != "B" else f"{number:.0f}B"
        number /= 1024
    raise AssertionError


def _content(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
