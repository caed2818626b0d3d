"""What must be so before a unit is started: it is of a kind that is supported, its conditions hold; starts nothing."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable

from sysenv_ns.within import identities, service_unit, socket_unit, states, timer_unit, units
from sysenv_ns.within.units import OrderError, Unit

_KINDS = {
    "path": "start its service by hand",
    "mount": "mounts are the host's",
    "automount": "mounts are the host's",
    "swap": "swap is the host's",
    "device": "devices are the host's",
}


def require_supported(unit: Unit) -> None:
    """Raise OrderError for what cannot be started here."""
    if unit.type == "target":
        return
    if unit.type in ("socket", "timer"):
        (socket_unit if unit.type == "socket" else timer_unit).require_supported(unit)
        return
    if unit.type != "service":
        what = _KINDS.get(unit.type, "only services are")
        raise OrderError(f"{unit.name}: units of the type {unit.type} are not supported in an environment", what)
    kind = unit.text("Service", "Type", "dbus" if unit.raw("Service", "BusName") else "simple")
    if kind not in service_unit.TYPES:
        hint = "the bus is the host's, and gives it no name" if kind == "dbus" else ""
        raise OrderError(f"{unit.name}: services of Type={kind} are not supported in an environment", hint)
    if not unit.raw("Service", "ExecStart") and not (kind == "oneshot" and unit.raw("Service", "ExecStop")):
        raise OrderError(f"{unit.name} has no ExecStart=")
    for key in ("RootDirectory", "RootImage"):
        if unit.text("Service", key):
            raise OrderError(
                f"{unit.name}: {key}= is not supported in an environment", "its programs would be in another root"
            )
    if unit.text("Service", "StandardInput").partition(":")[0] in ("tty", "tty-force", "tty-fail", "fd"):
        raise OrderError(f"{unit.name}: StandardInput={unit.text('Service', 'StandardInput')} is not supported")
    identities.of(unit)


def require_conditions(unit: Unit) -> None:
    """Condition...= and Assert...= on paths. Those on the machine are not looked at: the host has seen to them."""
    for kind in ("Condition", "Assert"):
        for name, holds in _PATH_CONDITIONS.items():
            for value in unit.values("Unit", kind + name):
                negated, path = value.startswith("!"), value.lstrip("|!")
                if holds(path) == negated:
                    raise OrderError(f"{unit.name} is not started: {kind}{name}={value} is not met")

    for name in unit.words("Unit", "Requisite"):
        if not states.read(units.full_name(name)).is_active:
            raise OrderError(f"{unit.name} is not started: it requires {name} to be active")


def _is_not_empty(path: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.listdir(path)) if os.path.isdir(path) else os.path.getsize(path) > 0
    return False


_PATH_CONDITIONS: dict[str, Callable[[str], bool]] = {
    "PathExists": os.path.exists,
    "PathExistsGlob": lambda pattern: bool(glob.glob(pattern)),
    "PathIsDirectory": os.path.isdir,
    "PathIsSymbolicLink": os.path.islink,
    "DirectoryNotEmpty": _is_not_empty,
    "FileNotEmpty": _is_not_empty,
    "FileIsExecutable": lambda path: os.path.isfile(path) and os.access(path, os.X_OK),
}
