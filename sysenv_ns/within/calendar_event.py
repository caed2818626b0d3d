"""PURE: OnCalendar=, as systemd.time(7) describes calendar events: reads one, and says when it comes next."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sysenv_ns.within.units import OrderError

_SHORTHANDS = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    **dict.fromkeys(("yearly", "annually", "anually"), "*-01-01 00:00:00"),
    "quarterly": "*-01,04,07,10-01 00:00:00",
    **dict.fromkeys(("semiannually", "semi-annually", "biannually", "bi-annually"), "*-01,07-01 00:00:00"),
}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_YEARS = range(1970, 2200)
_FROM_END = 28  # days that every month has
_PART = re.compile(r"(\d+)(?:\.\.(\d+))?(?:/(\d+))?")


@dataclass(frozen=True)
class CalendarEvent:
    """Moments that come again and again: each of these weekdays, years, months, days and times of day."""

    weekdays: frozenset[int]  # 0 is Monday
    years: frozenset[int]
    months: tuple[int, ...]
    days: frozenset[int]
    from_end: bool  # whether 1 is the last day of a month
    times: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # hours, minutes, seconds
    zone: tzinfo | None  # None for the time zone of this system

    def next_after(self, moment: float) -> float | None:
        """The first time after a moment, both in seconds since the epoch; None when it never comes again."""
        start = datetime.fromtimestamp(moment, self.zone)
        for found in self._from(start.replace(tzinfo=None, microsecond=0)):
            seconds = found.replace(tzinfo=self.zone).timestamp()
            # An hour that is left out for summer time has none.
            if seconds > moment and datetime.fromtimestamp(seconds, self.zone).replace(tzinfo=None) == found:
                return seconds
        return None

    def _from(self, start: datetime) -> Iterator[datetime]:
        """In local time, and in order."""
        for day in self._dates(start.date()):
            for hour, minute, second in self._times((start.hour, start.minute, start.second), day == start.date()):
                yield datetime.combine(day, time(hour, minute, second))

    def _dates(self, first: date) -> Iterator[date]:
        for year in range(first.year, _YEARS.stop):
            for month in self.months if year in self.years else ():
                length = calendar.monthrange(year, month)[1]
                for day in range(1, length + 1):
                    number = length + 1 - day if self.from_end else day
                    found = date(year, month, day)
                    if number in self.days and found >= first and found.weekday() in self.weekdays:
                        yield found

    def _times(self, first: tuple[int, int, int], is_first_day: bool) -> Iterator[tuple[int, int, int]]:
        earliest = first if is_first_day else (0, 0, 0)
        hours, minutes, seconds = self.times
        for hour in hours:
            if hour < earliest[0]:
                continue
            for minute in minutes:
                if (hour, minute) < earliest[:2]:
                    continue
                yield from ((hour, minute, second) for second in seconds if (hour, minute, second) >= earliest)


def parse(text: str) -> CalendarEvent:
    """An event by its text. Raises OrderError for what is none, and for fractions of seconds."""
    try:
        return _parsed(text)
    except ValueError as error:
        detail = f": {error}" if str(error) else ""
        raise OrderError(f"{text!r} is not a calendar event{detail}", "see: man systemd.time") from None


def _parsed(text: str) -> CalendarEvent:
    words = text.split()
    zone = _zone(words[-1]) if words else None
    if zone is not None:
        del words[-1]
    if len(words) == 1:
        words = _SHORTHANDS.get(words[0].lower(), words[0]).split()
        if re.fullmatch(r"@\d+", words[0]) and zone is None:
            zone = ZoneInfo("UTC")
            words = datetime.fromtimestamp(int(words[0][1:]), zone).strftime("%Y-%m-%d %H:%M:%S").split()
    if not words:
        raise ValueError
    weekdays = _weekdays(words.pop(0)) if words[0][0].isalpha() else frozenset(range(7))
    is_date: Callable[[str], bool] = lambda word: ":" not in word and ("-" in word or "~" in word)  # noqa: E731
    years, months, days, from_end = _date(words.pop(0) if words and is_date(words[0]) else "*-*-*")
    times = _time_of_day(words.pop(0) if words else "00:00:00")
    if words:
        raise ValueError
    return CalendarEvent(weekdays, years, tuple(sorted(months)), days, from_end, times, zone)


def _zone(word: str) -> tzinfo | None:
    """A time zone by its name; None for another word."""
    if not word[0].isalpha() or not (word == "UTC" or "/" in word or word.isupper()):
        return None
    try:
        return ZoneInfo(word)
    except (ZoneInfoNotFoundError, OSError):
        return None


def _weekdays(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("..") if ".." in part else part.partition("-")
        if (".." in part or "-" in part) and not last:
            raise ValueError
        start = _weekday(first)
        stop = _weekday(last) if last else start
        if stop < start:
            raise ValueError("these weekdays are not in order")
        found.update(range(start, stop + 1))
    return frozenset(found)


def _weekday(text: str) -> int:
    name = text.lower()
    for number, day in enumerate(_DAYS):
        if name in (day, day[:3]):
            return number
    raise ValueError(f"{text!r} is not a weekday")


def _date(text: str) -> tuple[frozenset[int], frozenset[int], frozenset[int], bool]:
    """Years, months, days, and whether these are counted from the end of the month."""
    found = re.fullmatch(r"(?:([^-~]+)-)?([^-~]+)([-~])([^-~]+)", text)
    if found is None:
        raise ValueError
    year, month, separator, day = found.groups()
    years = frozenset(_YEARS) if year in (None, "*") else _values(year, _YEARS, _full_year)
    from_end = separator == "~"
    return years, _values(month, range(1, 13)), _days(day, from_end), from_end


def _full_year(year: int) -> int:
    if year >= 100:
        return year
    return year + (2000 if year < 70 else 1900)


def _days(text: str, from_end: bool) -> frozenset[int]:
    if not from_end:
        return _values(text, range(1, 32))
    if text == "*":
        return frozenset(range(1, 32))
    # Counted down: 7/3 is the seventh day from the end, the fourth and the last.
    found: set[int] = set()
    for part in text.split(","):
        start, stop, step = _numbers(part)
        if not 1 <= start <= _FROM_END or (stop is not None and not start <= stop <= _FROM_END):
            raise ValueError("a day that not every month has")
        if step and stop is None and start <= step:
            raise ValueError("no month has days after its last")
        found.update(range(start, 0, -(step or start)) if stop is None else range(start, stop + 1, step or 1))
    return frozenset(found)


def _time_of_day(text: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise ValueError
    if re.search(r"(?<!\.)\.(?!\.)", parts[-1]):
        raise ValueError("fractions of seconds are not supported")
    hours, minutes, seconds = (*parts, "0")[:3]
    limits = ((hours, 24), (minutes, 60), (seconds, 60))
    first, second, third = (tuple(sorted(_values(part, range(limit)))) for part, limit in limits)
    return first, second, third


def _values(text: str, limits: range, meaning: Callable[[int], int] = int) -> frozenset[int]:
    """What a list such as 1,5..9,20/2 stands for. Raises ValueError."""
    if text == "*":
        return frozenset(limits)
    found: set[int] = set()
    for part in text.split(","):
        start, stop, step = _numbers(part)
        first = meaning(start)
        last = meaning(stop) if stop is not None else limits[-1] if step else first
        if first not in limits or last not in limits or last < first or (step and stop is None and first + step > last):
            raise ValueError(f"{part} is out of bounds")
        found.update(range(first, last + 1, step or 1))
    return frozenset(found)


def _numbers(part: str) -> tuple[int, int | None, int | None]:
    found = _PART.fullmatch(part)
    if found is None:
        raise ValueError(f"{part!r} is not a number")
    start, stop, step = found.groups()
    return int(start), int(stop) if stop else None, int(step) if step else None
