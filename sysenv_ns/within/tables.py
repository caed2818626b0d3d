"""The tables of list-units, list-timers and list-sockets, as systemctl(1) has them; changes nothing."""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Iterator, Sequence

from sysenv_ns.within import addresses, passing, reports, states, timer_unit, units
from sysenv_ns.within.states import UnitState
from sysenv_ns.within.units import OrderError, Unit

_NEVER = "-"  # what systemd 254 and later show in place of a time


def of_units(
    show_all: bool, types: Sequence[str], wanted: Sequence[str], patterns: Sequence[str], legend: bool
) -> list[str]:
    """Units of these types in one of the wanted states: those that have been started, or all."""
    rows = []
    for state, unit in _known(show_all, patterns):
        if types and state.name.rpartition(".")[2] not in types:
            continue
        if wanted and not {state.active, state.sub} & set(wanted):
            continue
        if not show_all and not wanted and state.active == "inactive":
            continue
        loaded, description = ("loaded", unit.description) if unit else ("not-found", "")
        rows.append((state.name, loaded, state.active, state.sub, description))
    return _lines(("UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION"), rows, "units", legend)


def of_timers(show_all: bool, patterns: Sequence[str], legend: bool) -> list[str]:
    """Timers that run, or all; those that elapse next first."""
    rows = []
    for state, unit in _known(show_all, patterns):
        if unit is not None and unit.type == "timer" and (state.is_active or show_all):
            coming = (
                (reports.moment(state.next), reports.span(state.next - time.time())) if state.next else (_NEVER,) * 2
            )
            past = (reports.moment(state.last), f"{reports.span(time.time() - state.last)} ago") if state.last else None
            row = (*coming, *(past or (_NEVER,) * 2), unit.name, timer_unit.target(unit))
            rows.append((state.next or float("inf"), row))
    head = ("NEXT", "LEFT", "LAST", "PASSED", "UNIT", "ACTIVATES")
    return _lines(head, [row for _, row in sorted(rows)], "timers", legend)


def of_sockets(show_all: bool, patterns: Sequence[str], legend: bool) -> list[str]:
    """What sockets listen on that run, or all."""
    rows = []
    for state, unit in _known(show_all, patterns):
        if unit is not None and unit.type == "socket" and (state.is_active or show_all):
            with contextlib.suppress(OrderError):  # what cannot be listened on here
                rows += [(address.shown, unit.name, passing.target(unit)) for address in addresses.of(unit)]
    return _lines(("LISTEN", "UNIT", "ACTIVATES"), sorted(rows), "sockets", legend)


def _known(show_all: bool, patterns: Sequence[str]) -> Iterator[tuple[UnitState, Unit | None]]:
    """Units that have been started, or all, whose names are or match one of these, if there are any."""
    found = {state.name: state for state in states.known()}
    for name in sorted({*found, *(units.names() if show_all else ())}):
        if patterns and not any(fnmatch.fnmatchcase(name, units.full_pattern(pattern)) for pattern in patterns):
            continue
        unit = None
        with contextlib.suppress(OrderError):
            unit = units.load(name)
        yield found.get(name, UnitState(name)), unit


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]], what: str, legend: bool) -> list[str]:
    shown = [head, *rows] if legend else list(rows)
    last = len(head) - 1
    widths = [max((len(row[column]) for row in shown), default=0) for column in range(last)]
    lines = ["  ".join((*(row[n].ljust(widths[n]) for n in range(last)), row[last])).rstrip() for row in shown]
    return [*lines, *(["", f"{len(rows)} {what} listed."] if legend else [])]
