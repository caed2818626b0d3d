"""When timers elapse, by what has been before."""

from __future__ import annotations

import pytest

from sysenv_ns.within import schedule
from sysenv_ns.within.schedule import Past
from sysenv_ns.within.units import OrderError, Unit


def unit(**settings: str) -> Unit:
    return Unit("x.timer", "", {("Timer", key): (value,) for key, value in settings.items()})


@pytest.mark.parametrize(
    ("settings", "past", "expected"),
    [
        ({"OnActiveSec": "5"}, Past(now=100, active=100, boot=50), 105),
        # What is counted from a beginning elapses once, though late.
        ({"OnBootSec": "1min"}, Past(now=1000, active=1000, boot=50), 110),
        ({"OnBootSec": "1min"}, Past(now=1001, active=1000, boot=50, elapsed=1000), None),
        ({"OnStartupSec": "1min"}, Past(now=60, active=55, boot=50), 110),
        ({"OnActiveSec": "5"}, Past(now=106, active=100, boot=50, elapsed=105.1), None),
        # What is counted from the unit needs that to have been started.
        ({"OnUnitActiveSec": "1h"}, Past(now=100, active=100, boot=50), None),
        ({"OnUnitActiveSec": "1h"}, Past(now=100, active=100, boot=50, unit_active=90), 3690),
        ({"OnUnitActiveSec": "1h"}, Past(now=300, active=100, boot=50, elapsed=200, unit_active=90), 3800),
        ({"OnUnitInactiveSec": "1h"}, Past(now=300, active=100, boot=50, elapsed=200, unit_inactive=290), 3890),
        ({"OnActiveSec": "5", "OnUnitActiveSec": "1h"}, Past(now=106, active=100, boot=50, elapsed=105.1), 3705.1),
        # Calendar events are counted from the last time, so that one that has been missed lies in the past.
        ({"OnCalendar": "*:*:00 UTC"}, Past(now=1000, active=1000, boot=50), 1020),
        ({"OnCalendar": "*:*:00 UTC"}, Past(now=1000, active=1000, boot=50, elapsed=500), 540),
        ({"OnCalendar": "*:*:00 UTC", "OnActiveSec": "1"}, Past(now=1000, active=1000, boot=50), 1001),
        ({"OnCalendar": "1990-01-01 UTC"}, Past(now=1e9, active=1e9, boot=50), None),
    ],
)
def test_next(settings: dict[str, str], past: Past, expected: float | None) -> None:
    assert schedule.of(unit(**settings)).next(past) == expected


@pytest.mark.parametrize("settings", [{}, {"OnClockChange": "yes"}, {"OnCalendar": "never"}, {"OnBootSec": "soon"}])
def test_what_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(OrderError):
        schedule.of(unit(**settings))
