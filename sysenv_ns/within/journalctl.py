"""journalctl -u: the output of services of the environment; without a unit, the host's journal, unchanged."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

from sysenv_ns.within import logs, systemctl, units
from sysenv_ns.within.units import OrderError

_REAL = ("/usr/bin/journalctl", "/bin/journalctl")
_BREATH = 0.2  # seconds between two looks for what is new


def main(arguments: Sequence[str]) -> int:
    """journalctl with these arguments. Returns the exit status."""
    return systemctl.answered("journalctl", lambda: _journalctl(list(arguments)))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("journalctl", add_help=False, allow_abbrev=False)
    parser.add_argument("-u", "--unit", action="append", default=[])
    parser.add_argument("-n", "--lines", nargs="?", const="10")
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-r", "--reverse", action="store_true")
    parser.add_argument("--services", action="store_true")  # for sysenv-ns logs: all of the environment's
    # Nothing is cut short or explained, there is no pager, and it is of one start of the machine.
    for names in (("-e", "--pager-end"), ("-x", "--catalog"), ("-q", "--quiet"), ("-a", "--all"), ("-l", "--full")):
        parser.add_argument(*names, action="store_true")
    for name in ("--no-pager", "--no-hostname", "--no-full", "--no-tail", "--system"):
        parser.add_argument(name, action="store_true")
    return parser


def _journalctl(arguments: list[str]) -> int:
    options, unknown = _options().parse_known_args(arguments)
    if not options.unit and not options.services:
        return systemctl.become(_REAL, arguments, "systemd")
    names = [_unit_name(name) for name in options.unit] or logs.names()
    if unknown:
        where = " ".join(map(logs.path, names))
        raise OrderError(f"{unknown[0]} is not supported for services of an environment", f"the text is in {where}")
    if options.lines not in (None, "all") and not options.lines.isdecimal():
        raise OrderError(f"{options.lines} is not a number of lines")
    count = 10 if options.follow and options.lines is None else None
    if options.lines not in (None, "all"):
        count = int(options.lines)
    found = sorted((line for name in names for line in logs.lines(name, count)), key=logs.moment)
    if count is not None:
        found = found[-count:] if count else []
    systemctl.say(*(reversed(found) if options.reverse else found))
    if not found and not options.follow:
        systemctl.say("-- No entries --")
    if options.follow:
        _follow(names)
    return 0


def _unit_name(name: str) -> str:
    """The unit that a name stands for, which may be gone while what it said is kept."""
    full = units.full_name(name)
    try:
        unit = units.load(full)
    except OrderError:  # masked
        unit = None
    if unit is None and not os.path.exists(logs.path(full)):
        raise OrderError(f"there is no unit {full} in this environment", "without -u, it is the host's journal")
    return unit.name if unit else full


def _follow(names: Sequence[str]) -> None:
    """Show what is said from now on, until interrupted."""
    followers = [logs.Follower(name) for name in names]
    while True:
        for follower in followers:
            for line in follower.new():
                systemctl.say(line)
        systemctl.flush()
        time.sleep(_BREATH)
