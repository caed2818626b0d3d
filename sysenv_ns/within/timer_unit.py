"""The supervisor of a timer: waits, and has its unit started when it elapses (systemd.timer(5))."""

from __future__ import annotations

import os
import random
import time
import zlib
from dataclasses import replace

from sysenv_ns.within import detached, schedule, states, units
from sysenv_ns.within.schedule import Past
from sysenv_ns.within.supervisor import UnitSupervisor
from sysenv_ns.within.units import OrderError, Unit

_STAMPS = "/var/lib/systemd/timers"
_FOREVER = float("inf")
_LONGEST = 60.0  # seconds until the clock is looked at again, which may be set, or stand still while the machine sleeps


def launch(unit: Unit) -> None:
    """Wait for the timer, and return when that has begun. Raises OrderError."""
    detached.run(unit.name, lambda report: TimerSupervisor(unit, report).run())


def target(unit: Unit) -> str:
    """What a timer starts."""
    return unit.text("Timer", "Unit") or f"{unit.name.rpartition('.')[0]}.service"


def require_supported(unit: Unit) -> None:
    """Raises OrderError for what cannot be done here."""
    schedule.of(unit)
    if units.load(target(unit)) is None:
        raise OrderError(f"Unit {target(unit)} not found, which {unit.name} is for.", status=5)


class TimerSupervisor(UnitSupervisor):
    """The life of one timer."""

    def __init__(self, unit: Unit, report: int) -> None:
        super().__init__(unit, report, "systemctl")
        self._target, self._schedule = target(unit), schedule.of(unit)
        self._stamp = f"{_STAMPS}/stamp-{unit.name}" if unit.flag("Timer", "Persistent") else ""

    def run(self) -> None:
        """Returns when it is told to stop, or will not elapse again and is not to remain."""
        if self._stamp:
            self._state = replace(self._state, last=self._read_stamp())
        self._set("active", "waiting")
        self._set("active", "waiting", next=self._next() or 0.0)
        self._tell(detached.DONE)
        while not self._events.told_to_stop:
            if self._state.next == 0.0:
                if not self._unit.flag("Timer", "RemainAfterElapse", True):
                    break
                self._set("active", "elapsed")
            self._wait(self._state.next or _FOREVER)
            if not self._events.told_to_stop:
                self._elapse()
        self._set("inactive", "dead", next=0.0)
        self._log.finish()

    def _next(self) -> float | None:
        time.tzset()  # the time zone may be another one since the last time
        unit = states.read(self._target)
        found = self._schedule.next(
            Past(
                states.now(),
                self._state.since,
                states.boot(),
                self._state.last,
                unit.started,
                0.0 if unit.runs else unit.since,
            )
        )
        return None if found is None else found + self._delay()

    def _delay(self) -> float:
        """RandomizedDelaySec=, the same each time with FixedRandomDelay=."""
        most = self._unit.seconds("Timer", "RandomizedDelaySec", 0.0)
        if self._unit.flag("Timer", "FixedRandomDelay"):
            return zlib.crc32(self._unit.name.encode()) / (1 << 32) * most
        return random.uniform(0, most)

    def _wait(self, moment: float) -> None:
        """Until then, or told to stop."""
        while not self._events.told_to_stop and (left := moment - states.now()) > 0:
            self._events.watch((), min(left, _LONGEST))
            self._events.reap()

    def _elapse(self) -> None:
        """Start the unit, and wait until it has ended."""
        self._touch_stamp()
        self._set("active", "running", last=states.now(), next=0.0)
        order = self._order("start", self._target)
        while not self._events.told_to_stop and order not in self._events.ended:
            self._events.watch((), _LONGEST)
            self._events.reap()
        self._events.ended.pop(order, None)
        unit = states.read(self._target)
        if unit.is_supervised and not self._events.told_to_stop:
            self._wait_for_end(unit.supervisor)
        self._set("active", "waiting", next=self._next() or 0.0)

    def _wait_for_end(self, pid: int) -> None:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        while not self._events.told_to_stop and process not in self._events.watch([process], _LONGEST):
            self._events.reap()
        os.close(process)

    def _read_stamp(self) -> float:
        """When it has elapsed last, in another life of the environment perhaps; the first time that counts as now."""
        try:
            return os.stat(self._stamp).st_mtime
        except FileNotFoundError:
            self._touch_stamp()
            return states.now()

    def _touch_stamp(self) -> None:
        if self._stamp:
            os.makedirs(_STAMPS, mode=0o755, exist_ok=True)
            with open(self._stamp, "a", encoding="ascii"):
                os.utime(self._stamp)
