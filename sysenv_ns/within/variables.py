"""The environment variables of a unit's commands, as systemd.exec(5) says; of files only those that a unit names."""

from __future__ import annotations

import contextlib
import glob
import os
import shlex
from collections.abc import Iterable, Mapping

from sysenv_ns.within import states, syntax
from sysenv_ns.within.execution import PATH
from sysenv_ns.within.identities import Identity
from sysenv_ns.within.units import OrderError, Unit

MANAGER_VARIABLES = f"{states.DIRECTORY}/environment"  # of systemctl set-environment, a line each


def of(unit: Unit, who: Identity, more: Mapping[str, str]) -> dict[str, str]:
    """The environment variables of the unit's commands. Raises OrderError for a file of them that is not there."""
    found = {"PATH": PATH, "LANG": "C.UTF-8", "SYSTEMD_OFFLINE": "1"}
    found |= {name: os.environ[name] for name in ("SYSENV_NS", "TZ") if name in os.environ}
    if who.name:
        found |= {"USER": who.name, "LOGNAME": who.name, "HOME": who.home, "SHELL": who.shell}
    found |= of_manager()
    for names in unit.values("Service", "PassEnvironment"):
        found |= {name: os.environ[name] for name in names.split() if name in os.environ}
    for value in unit.values("Service", "Environment"):
        found |= _assignments(syntax.words(value))
    for value in unit.values("Service", "EnvironmentFile"):
        found |= _of_files(unit, value)
    for names in unit.values("Service", "UnsetEnvironment"):
        for name in syntax.words(names):
            found.pop(name.partition("=")[0], None)
    return found | dict(more)


def of_manager() -> dict[str, str]:
    """What set-environment has set."""
    try:
        with open(MANAGER_VARIABLES, encoding="utf-8", errors="surrogateescape") as stream:
            return _assignments(stream.read().splitlines())
    except OSError:
        return {}


def _assignments(words: Iterable[str]) -> dict[str, str]:
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}


def _of_files(unit: Unit, value: str) -> dict[str, str]:
    optional, pattern = value.startswith("-"), value.lstrip("-")
    paths = sorted(glob.glob(pattern))
    if not paths and not optional:
        raise OrderError(f"{unit.name}: its EnvironmentFile {pattern} does not exist")
    found: dict[str, str] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                text = stream.read().replace("\\\n", "")
        except OSError as error:
            if optional:
                continue
            raise OrderError(f"{unit.name}: {path} cannot be read: {error.strerror}") from error
        for line in text.splitlines():
            name, equals, said = line.strip().partition("=")
            if equals and not name.startswith(("#", ";")):
                with contextlib.suppress(ValueError):  # a quote that is not closed
                    found[name.strip()] = " ".join(shlex.split(said)) if said[:1] in "\"'" else said.strip()
    return found
