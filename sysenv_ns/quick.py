"""Plain calls of exec and shell for an existing environment, without click, which would take half of the time.

All other calls are left to cli.py before anything is done: other verbs and options, mistakes, an environment that must
first be created or checked. The options are those of verbs/entry.py; tests/unit/test_quick.py compares the two.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, failures, notices, supervised
from sysenv_ns.environment import ephemeral, rootstore, running, transaction
from sysenv_ns.environment.store import Environment, Store
from sysenv_ns.errors import EXIT_FAILURE, EXIT_INTERRUPTED, SysenvError
from sysenv_ns.packages import origin
from sysenv_ns.records import dataclass
from sysenv_ns.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from sysenv_ns.command import Asked

_IDENTITIES: dict[str, Asked] = {"--root": "root", "--me": "me", "--linked": "linked"}
_OPTIONS = {"exec": {*_IDENTITIES}, "shell": {"--root", "--me"}}


@dataclass(frozen=True)
class PlainCall:
    """The arguments of a plain exec or shell."""

    name: str
    identity: Asked | None
    arguments: tuple[str, ...] | None  # None: a shell


def run(arguments: Sequence[str]) -> int | None:
    """Become the command of a plain call. Returns the exit status if that fails, None if the call is not plain."""
    call = parsed(arguments)
    if call is None:
        return None
    outside = failures.root()
    store = None
    try:
        store = rootstore.of_user()
        environment = _ready(store, call.name)
        if environment is None:
            return None
        emulated = supervised.emulation_of(store, environment)
        from sysenv_ns import session  # while the supervisor begins
        from sysenv_ns.command import Command

        reporter = Reporter(notices.notice, lambda message: None, _progress)
        session.run(store, environment, Command(call.arguments, call.identity), reporter, emulated)
    except BrokenPipeError:  # nobody reads what it says
        return EXIT_FAILURE
    except KeyboardInterrupt:
        notices.notice("interrupted")
        return EXIT_INTERRUPTED
    except (SysenvError, OSError) as error:
        return failures.tell(error, failures.EXIT_BEFORE_COMMAND)
    except Exception as error:
        return failures.tell_unexpected(error, outside, store.path if store else None, None)


def parsed(arguments: Sequence[str]) -> PlainCall | None:
    """A plain call: exec [--root|--me|--linked] NAME [--] COMMAND..., or shell [--root|--me] NAME; None for others."""
    verb, *rest = arguments or ("",)
    if verb not in _OPTIONS:
        return None
    identity: Asked | None = None
    while rest and rest[0] in _OPTIONS[verb]:
        identity = _IDENTITIES[rest.pop(0)]
    if not rest or not rest[0] or rest[0].startswith("-"):
        return None
    name, *command = rest
    if verb == "shell":
        return None if command else PlainCall(name, identity, None)
    if command[:1] == ["--"]:
        command = command[1:]
    elif command and command[0].startswith("-"):  # an option at the wrong place
        return None
    return PlainCall(name, identity, tuple(command)) if command else None


def _ready(store: Store, name: str) -> Environment | None:
    """The environment; None if anything has to be done, asked or told before it is entered."""
    try:
        if os.environ.get("SYSENV_NS") or running.inside() or not store.exists(name):
            return None
        if any(ephemeral.ended(store)) or transaction.abandoned(store.trash):
            return None
        environment = store.load(name)
        environment.require_root()
        return None if origin.may_be_drifted(environment) else environment
    except SysenvError:
        return None


def _progress() -> AbstractContextManager[Callable[[float], None]]:
    from sysenv_ns import libraries

    libraries.find()
    from sysenv_ns import console

    return console.progress("Reading the host")
