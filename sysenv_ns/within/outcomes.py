"""PURE: what the end of a service's process means, and whether the service is started again; starts nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from sysenv_ns.within.units import OrderError, Unit

CONDITION = "exec-condition"  # the result of a unit that was not to be started
_CLEAN_SIGNALS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE})


def described(status: int) -> str:
    """A wait status in words."""
    if os.WIFEXITED(status):
        return f"status {os.WEXITSTATUS(status)}"
    return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"


def result(status: int) -> str:
    """What `systemctl show -p Result` calls a wait status that is not clean."""
    if os.WIFEXITED(status):
        return "exit-code"
    return "core-dump" if os.WCOREDUMP(status) else "signal"


def is_clean(unit: Unit, status: int) -> bool:
    """Whether a process of a unit has ended well (systemd.service(5), SuccessExitStatus=)."""
    also = unit.words("Service", "SuccessExitStatus")
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status) == 0 or str(os.WEXITSTATUS(status)) in also
    number = signal.Signals(os.WTERMSIG(status))
    return (number in _CLEAN_SIGNALS and unit.text("Service", "Type") != "oneshot") or number.name in also


def restarts(unit: Unit, how: str, code: str) -> bool:
    """Restart= of systemd.service(5), after a life with this result and this end of the main process, in words."""
    policy = unit.text("Service", "Restart", "no")
    reached = {
        "success": ("always", "on-success"),
        "exit-code": ("always", "on-failure"),
        "timeout": ("always", "on-failure", "on-abnormal"),
    }.get(how, ("always", "on-failure", "on-abnormal", "on-abort"))
    never = unit.words("Service", "RestartPreventExitStatus")
    if any(code == f"status {word}" for word in unit.words("Service", "RestartForceExitStatus")):
        return True
    if how == CONDITION or policy not in reached or (unit.text("Service", "Type") == "oneshot" and how == "success"):
        return False
    return not any(code == f"status {word}" for word in never)


def is_limit_reached(unit: Unit, starts: Sequence[float]) -> bool:
    """StartLimitBurst= of systemd.unit(5): whether it has been started too often, at these moments of the clock that
    only goes on.
    """
    interval = unit.seconds("Unit", "StartLimitIntervalSec", 10.0)
    burst = int(unit.text("Unit", "StartLimitBurst", "5"))
    recent = [moment for moment in starts if time.monotonic() - moment < interval]
    return bool(interval and burst) and len(recent) >= burst


def signal_of(text: str) -> signal.Signals:
    """A signal by its name, with or without SIG, or its number. Raises OrderError."""
    name = text if text.startswith("SIG") else f"SIG{text}"
    try:
        return signal.Signals(int(text)) if text.isdecimal() else signal.Signals[name]
    except (KeyError, ValueError):
        raise OrderError(f"{text} is not a signal") from None
