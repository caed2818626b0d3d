"""What systemctl is asked about units: each question with its answer and exit status; prints and changes nothing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sysenv_ns.within import orders, reports, states, tables, units, variables
from sysenv_ns.within.units import OrderError, Unit

_INACTIVE, _UNKNOWN = 3, 4  # exit statuses of status and is-active


@dataclass(frozen=True)
class Reply:
    """Lines, the exit status, and what could not be answered."""

    lines: tuple[str, ...] = ()
    status: int = 0
    failures: tuple[OrderError, ...] = ()


def _is_active(options: argparse.Namespace, names: list[str]) -> Reply:
    require_names(names)
    found = [states.read(_real(name)) for name in names]
    lines = () if options.quiet else tuple(state.active for state in found)
    if any(state.is_active for state in found):
        return Reply(lines)
    return Reply(lines, _INACTIVE if any(_loaded(name) for name in names) else _UNKNOWN)


def _is_failed(options: argparse.Namespace, names: list[str]) -> Reply:
    require_names(names)
    found = [states.read(_real(name)) for name in names]
    lines = () if options.quiet else tuple(state.active for state in found)
    return Reply(lines, 0 if any(state.active == "failed" for state in found) else 1)


def require_names(names: Sequence[str]) -> None:
    """Raises OrderError where there are none."""
    if not names:
        raise OrderError("which unit?")


def _real(name: str) -> str:
    """The name of a unit that another name may be an alias of."""
    unit = _loaded(name)
    return unit.name if unit else units.full_name(name)


def _loaded(name: str) -> Unit | None:
    try:
        return units.load(units.full_name(name))
    except OrderError:
        return None


def _status(options: argparse.Namespace, names: list[str]) -> Reply:
    lines: list[str] = []
    if not names:
        names = [state.name for state in states.known() if state.active != "inactive"]
        where = os.environ.get("SYSENV_NS", "")
        lines.append(f"{len(names)} services have been started in the environment {where}".rstrip())
    worst = 0
    missing = []
    for name in names:
        unit = units.load(units.full_name(name))
        if unit is None:
            missing.append(OrderError(f"Unit {units.full_name(name)} could not be found."))
            worst = max(worst, _UNKNOWN)
            continue
        lines += reports.status(unit, options.lines)
        if not states.read(unit.name).is_active:
            worst = max(worst, _INACTIVE)
    return Reply(tuple(lines), worst, tuple(missing))


def _show(options: argparse.Namespace, names: list[str]) -> Reply:
    wanted = [name for value in options.property for name in value.split(",")]
    lines: list[str] = []
    for name in names:
        unit = _loaded(name)
        found = reports.properties(unit.name if unit else units.full_name(name), unit, states.read(_real(name)))
        for key in wanted or found:
            lines += [found[key] if options.value else f"{key}={found[key]}"] if key in found else []
    return Reply(tuple(lines))


def _cat(options: argparse.Namespace, names: list[str]) -> Reply:
    require_names(names)
    lines: list[str] = []
    for name in names:
        unit = orders.found(name)
        for path in (unit.path, *unit.drop_ins):
            if path:
                with open(path, encoding="utf-8", errors="replace") as stream:
                    lines += [f"# {path}", stream.read()]
    return Reply(tuple(lines))


def _list_units(options: argparse.Namespace, names: list[str]) -> Reply:
    wanted = [word for value in options.state for word in value.split(",")]
    if options.failed:
        wanted.append("failed")
    types = [word for value in options.type for word in value.split(",")]
    return Reply(tuple(tables.of_units(options.all, types, wanted, names, not options.no_legend)))


def _list_timers(options: argparse.Namespace, names: list[str]) -> Reply:
    return Reply(tuple(tables.of_timers(options.all, names, not options.no_legend)))


def _list_sockets(options: argparse.Namespace, names: list[str]) -> Reply:
    return Reply(tuple(tables.of_sockets(options.all, names, not options.no_legend)))


def _show_environment(options: argparse.Namespace, names: list[str]) -> Reply:
    return Reply(tuple(f"{key}={value}" for key, value in variables.of_manager().items()))


def _is_system_running(options: argparse.Namespace, names: list[str]) -> Reply:
    failed = any(state.active == "failed" for state in states.known())
    return Reply(("degraded" if failed else "running",), 1 if failed else 0)


ALL: dict[str, Callable[[argparse.Namespace, list[str]], Reply]] = {
    "is-active": _is_active,
    "is-failed": _is_failed,
    "status": _status,
    "show": _show,
    "cat": _cat,
    "list-units": _list_units,
    "list-timers": _list_timers,
    "list-sockets": _list_sockets,
    "show-environment": _show_environment,
    "is-system-running": _is_system_running,
}
