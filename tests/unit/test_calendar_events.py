"""Calendar events come when systemd.time(7) says; the moments here are those of `systemd-analyze calendar` 252."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.within import calendar_event
from sysenv_ns.within.units import OrderError

_BASE = "2024-01-15 12:00:00"  # a Monday


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This system's time zone is a known one."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _moments(text: str, base: str, count: int) -> list[str]:
    event = calendar_event.parse(text)
    moment: float | None = datetime.fromisoformat(base).replace(tzinfo=UTC).timestamp()
    found: list[str] = []
    for _ in range(count):
        assert moment is not None
        moment = event.next_after(moment)
        if moment is None:
            return found
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("minutely", ["2024-01-15 12:01:00", "2024-01-15 12:02:00"]),
        ("hourly", ["2024-01-15 13:00:00", "2024-01-15 14:00:00"]),
        ("Daily", ["2024-01-16 00:00:00", "2024-01-17 00:00:00"]),
        ("weekly", ["2024-01-22 00:00:00", "2024-01-29 00:00:00"]),
        ("monthly", ["2024-02-01 00:00:00", "2024-03-01 00:00:00"]),
        ("quarterly", ["2024-04-01 00:00:00", "2024-07-01 00:00:00"]),
        ("semi-annually", ["2024-07-01 00:00:00", "2025-01-01 00:00:00"]),
        ("yearly", ["2025-01-01 00:00:00", "2026-01-01 00:00:00"]),
        ("*:0/15", ["2024-01-15 12:15:00", "2024-01-15 12:30:00"]),
        ("0:0:0/20", ["2024-01-16 00:00:00", "2024-01-16 00:00:20"]),
        ("Mon..Fri 9,17:30", ["2024-01-15 17:30:00", "2024-01-16 09:30:00"]),
        ("Mon-Fri", ["2024-01-16 00:00:00", "2024-01-17 00:00:00"]),
        ("monday..wed,SAT", ["2024-01-16 00:00:00", "2024-01-17 00:00:00"]),
        ("mon,tue *-*-1..7 9:00", ["2024-02-05 09:00:00", "2024-02-06 09:00:00"]),
        ("Sat,Sun 12-05 08:05", ["2026-12-05 08:05:00", "2027-12-05 08:05:00"]),
        ("10-15", ["2024-10-15 00:00:00", "2025-10-15 00:00:00"]),
        ("12-05..08", ["2024-12-05 00:00:00", "2024-12-06 00:00:00"]),
        ("5/3-1", ["2024-05-01 00:00:00", "2024-08-01 00:00:00"]),
        ("8..16/4:00", ["2024-01-15 16:00:00", "2024-01-16 08:00:00"]),
        ("11..12/5-3", ["2024-11-03 00:00:00", "2025-11-03 00:00:00"]),
        ("2023..2025-01-01", ["2025-01-01 00:00:00"]),
        ("24-2-29", ["2024-02-29 00:00:00"]),
        ("*-2-29", ["2024-02-29 00:00:00", "2028-02-29 00:00:00"]),
        ("Mon *-2-29", ["2044-02-29 00:00:00", "2072-02-29 00:00:00"]),
        ("*-02~01", ["2024-02-29 00:00:00", "2025-02-28 00:00:00"]),
        ("*~2", ["2024-01-30 00:00:00", "2024-02-28 00:00:00"]),
        ("*-*~1..3", ["2024-01-29 00:00:00", "2024-01-30 00:00:00"]),
        ("*-*~07/3", ["2024-01-25 00:00:00", "2024-01-28 00:00:00"]),
        ("*-*~02..14/11", ["2024-01-19 00:00:00", "2024-01-30 00:00:00"]),
        ("Mon *-05~07/1", ["2024-05-27 00:00:00", "2025-05-26 00:00:00"]),
        ("daily UTC", ["2024-01-16 00:00:00", "2024-01-17 00:00:00"]),
        ("10:00 Europe/Berlin", ["2024-01-16 09:00:00", "2024-01-17 09:00:00"]),
        ("@1800000000", ["2027-01-15 08:00:00"]),
        ("@1700000000", []),
        ("2003-03-05 05:40", []),
        ("2-30", []),
    ],
)
def test_moments(text: str, expected: list[str]) -> None:
    assert _moments(text, _BASE, 2) == expected


def test_summer_time() -> None:
    # At 02:00 of the one day it is 03:00; on the other the hour from 02:00 comes twice.
    berlin = "2:30 Europe/Berlin"
    assert _moments(berlin, "2024-03-30 12:00:00", 2) == ["2024-04-01 00:30:00", "2024-04-02 00:30:00"]
    assert _moments(berlin, "2024-10-26 12:00:00", 2) == ["2024-10-27 00:30:00", "2024-10-28 01:30:00"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "tomorrow", "11", "11:", "* *:00", "Mon..", "Mon,,Tue", "Fri..Mon", "10:00 berlin", "2003-03-05T05:40"),
        *("*/2:00", "24:00", "23:59:60", "*-*-0", "*-*-5..3", "*-*-31/2", "*-13-1", "1969-01-01", "*-*~5..1", "*-*~29"),
        *("00:00:00.5", "*-*-* *:*:*/0.5", "Mon 10:00 11:00", "1-2-3-4", "~1"),
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(OrderError, match="is not a calendar event"):
        calendar_event.parse(text)


@given(st.text(st.sampled_from("0123456789*-~:,./@ MonTueUTC"), max_size=20))
def test_any_text_is_an_event_or_refused(text: str) -> None:
    try:
        event = calendar_event.parse(text)
    except OrderError:
        return
    found = event.next_after(1e9)
    assert found is None or found > 1e9
