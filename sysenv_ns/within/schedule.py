"""PURE: when a timer elapses, as systemd.timer(5) says, from what has been before; waits for nothing."""

from __future__ import annotations

from dataclasses import dataclass

from sysenv_ns.within import calendar_event
from sysenv_ns.within.calendar_event import CalendarEvent
from sysenv_ns.within.units import OrderError, Unit, span

_SPANS = ("OnActiveSec", "OnBootSec", "OnStartupSec", "OnUnitActiveSec", "OnUnitInactiveSec")
_OF_THE_MACHINE = ("OnClockChange", "OnTimezoneChange")


@dataclass(frozen=True)
class Past:
    """What a timer is counted from, in seconds since the epoch; 0 for what has not been."""

    now: float
    active: float  # since when the timer runs
    boot: float  # since when the environment does
    elapsed: float = 0.0  # when the timer has last
    unit_active: float = 0.0  # when its unit was started last
    unit_inactive: float = 0.0  # when that ended last


@dataclass(frozen=True)
class Schedule:
    """When a timer elapses: calendar events, and spans of seconds after one of these."""

    events: tuple[CalendarEvent, ...]
    spans: tuple[tuple[str, float], ...]

    def next(self, past: Past) -> float | None:
        """The next time, which may have passed; None when there is none any more."""
        after = past.elapsed or past.now
        found = [moment for event in self.events if (moment := event.next_after(after)) is not None]
        for key, seconds in self.spans:
            moment = _base(key, past)
            if moment is None:
                continue
            moment += seconds
            # What is counted from a beginning elapses once.
            if key in ("OnUnitActiveSec", "OnUnitInactiveSec") or not past.elapsed or moment > past.elapsed:
                found.append(moment)
        return min(found, default=None)


def _base(key: str, past: Past) -> float | None:
    """What a span begins with. OnBootSec= is from the start of the environment, as it is of a container's."""
    if key in ("OnUnitActiveSec", "OnUnitInactiveSec"):
        last = past.unit_active if key == "OnUnitActiveSec" else past.unit_inactive
        return max(last, past.elapsed) or None
    return past.active if key == "OnActiveSec" else past.boot


def of(unit: Unit) -> Schedule:
    """Raises OrderError for what is not supported, and where there is nothing."""
    for key in _OF_THE_MACHINE:
        if unit.flag("Timer", key):
            raise OrderError(f"{unit.name}: {key}= is not supported in an environment", "the clock is the host's")
    events = tuple(calendar_event.parse(text) for text in unit.values("Timer", "OnCalendar"))
    spans = tuple((key, span(value)) for key in _SPANS for value in unit.values("Timer", key))
    if not events and not spans:
        raise OrderError(f"{unit.name} has no On...=")
    return Schedule(events, spans)
