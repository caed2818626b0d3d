"""service(8): passes orders for units to systemctl, and others to init scripts."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sysenv_ns.within import systemctl, units
from sysenv_ns.within.units import OrderError

_REAL = ("/usr/sbin/service", "/sbin/service")
_OF_SYSTEMCTL = ("start", "stop", "restart", "reload", "force-reload", "status", "try-restart", "condrestart")


def main(arguments: Sequence[str]) -> int:
    """service with these arguments. Returns the exit status."""
    return systemctl.answered("service", lambda: _service(list(arguments)))


def _service(arguments: list[str]) -> int:
    name, order = arguments if len(arguments) == 2 else ("", "")
    if name and not name.startswith("-"):
        unit = units.load(units.full_name(name))
        if unit is not None and order in _OF_SYSTEMCTL:
            return systemctl.main([order, name])
        if unit is None and not os.path.exists(f"/etc/init.d/{name}"):
            raise OrderError(f"{name}: unrecognized service", "its package may not be installed in this environment")
    return systemctl.become(_REAL, arguments, "init-system-helpers")
