"""link --service: services of an environment as units of the user's own manager, which starts them at login."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sysenv_ns.environment import ephemeral, links
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.links import NewFile, NewLink, Shown
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import EXIT_NOT_FOUND, SysenvError
from sysenv_ns.home import lookup, programs
from sysenv_ns.home.lookup import Inside
from sysenv_ns.host import manager, services
from sysenv_ns.kernel import children
from sysenv_ns.reporter import Reporter
from sysenv_ns.sudo import Caller

_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?")
_TYPES = (".service", ".socket", ".timer")
_DIRECTORIES = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_TARGET = "default.target"
_LONGEST = "10min"  # a first start after an upgrade of the host compares every file; a service may take its time to end


def directory() -> Path:
    """Where units of the user's manager lie."""
    return links.unit_directory()


def full_name(name: str) -> str:
    """A unit's name with its type: a service where none is said. Raises SysenvError for what can be none."""
    if not _NAME.fullmatch(name) or name.startswith(("-", ".")):
        raise SysenvError(f"{name!r} is not the name of a service", "for example: redis-server", exit_status=2)
    return name if name.endswith(_TYPES) else f"{name}.service"


def link(store: Store, name: str, names: Sequence[str], reporter: Reporter, caller: Caller | None) -> tuple[Shown, ...]:
    """Make an enabled unit of the user's manager for each service. Raises SysenvError; then for none."""
    environment = store.load(name)
    ephemeral.refuse(environment, "a link")
    if caller is not None:
        raise SysenvError(
            f"services of {name} cannot be started at login: each start asks sudo",
            "a unit in /etc/systemd/system of this system can do it",
        )
    if environment.init:
        raise SysenvError(
            f"the services of {name} are started by its own systemd when it boots: systemctl enable",
            f"for login, a unit with Type=notify, Delegate=yes, ExecStart=sysenv-ns start --foreground {name}",
        )
    wanted = tuple(dict.fromkeys(map(full_name, names)))

    def see(root: Inside) -> tuple[str, ...]:
        return tuple(unit for unit in wanted if _exists(unit))

    found = lookup.look(store, environment, see, tuple[str, ...], reporter)
    if missing := [unit for unit in wanted if unit not in found]:
        raise SysenvError(
            f"there is no unit {missing[0]} in the environment {name}",
            f"its package makes it: sysenv-ns exec {name} -- apt-get install PACKAGE",
            EXIT_NOT_FOUND,
        )
    new = [NewLink(unit, unit, _files(store, environment, unit)) for unit in wanted]
    with store.lock(name), programs.written():
        links.add(environment, new, links.acting_for(caller))
    return tuple(shown for shown in links.show(environment.path) if shown.command in wanted)


def _exists(unit: str) -> bool:
    """Whether there is such a unit, its template, or an init script; inside."""
    prefix, at, instance = unit.partition("@")
    names = (unit, f"{prefix}@.{instance.rpartition('.')[2]}") if at else (unit,)
    paths = [f"{directory}/{name}" for directory in _DIRECTORIES for name in names]
    return any(map(os.path.lexists, (*paths, f"/etc/init.d/{unit.removesuffix('.service')}")))


def _files(store: Store, environment: Environment, unit: str) -> tuple[NewFile, ...]:
    name = own_name(environment.name, unit)
    directory = links.unit_directory()
    path = str(directory / name)
    enabled = str(directory / f"{_TARGET}.wants" / name)
    content = os.fsencode(_text(store, environment, unit))
    return NewFile(path, content), NewFile(enabled, os.fsencode(path), is_link=True)


def own_name(environment: str, unit: str) -> str:
    """What the unit of the user's manager is called."""
    return f"sysenv-ns-{environment}-{unit.removesuffix('.service')}.service"


def _text(store: Store, environment: Environment, unit: str) -> str:
    # sys.executable and not a script found on some PATH: it is what runs now.
    tool = [sys.executable, "-I", "-m", "sysenv_ns"]
    start = _command([*tool, "start", environment.name, unit])
    stop = _command([*tool, "exec", environment.name, "--", f"{services.PROGRAMS}/systemctl", "stop", unit])
    home = _word(f"SYSENV_NS_HOME={store.named}")
    # forking: it runs as long as processes of the service do, none of which is the one that is started.
    return f"""\
# Made by sysenv-ns: a service of the environment {environment.name}
[Unit]
Description={unit} of the environment {environment.name}

[Service]
Type=forking
GuessMainPID=no
Environment={home}
ExecStart={start}
ExecStop={stop}
TimeoutSec={_LONGEST}

[Install]
WantedBy={_TARGET}
"""


def _command(words: Sequence[str]) -> str:
    """Of ExecStart=, where a dollar sign begins a variable, but not in the program (systemd.service(5))."""
    program, *arguments = map(_word, words)
    return " ".join((program, *(argument.replace("$", "$$") for argument in arguments)))


def _word(text: str) -> str:
    """A word of a setting, as systemd.syntax(7) and systemd.unit(5) quote it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    return escaped if re.fullmatch(r"[\w./:@=+,-]+", escaped) else f'"{escaped}"'


def tell_manager(variables: Mapping[str, str]) -> bool:
    """Let the user's manager read its units again; whether there is one. Raises SysenvError when it does not do so."""
    given = manager.variables_for(variables)
    program = manager.program("systemctl")
    if given is None or program is None:
        return False
    if said := children.complaint(program, [program, "--user", "daemon-reload"], given):
        raise SysenvError(f"your service manager cannot reload its units: {said}", "systemctl --user status")
    return True
