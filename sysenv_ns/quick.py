"""Plain calls of exec and shell for an existing environment, without click, which would take half of the time.

All other calls are left to cli.py before anything is done: other verbs and options, mistakes, an environment that must
first be created or checked. The options are those of verbs/entry.py; tests/unit/test_quick.py compares the two.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, failures, supervised
from sysenv_ns.environment import rootstore
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from sysenv_ns.command import Asked

_IDENTITIES: dict[str, Asked] = {"--root": "root", "--me": "me", "--linked": "linked"}
_EPHEMERAL = "--ephemeral"
_OPTIONS = {"exec": {*_IDENTITIES, _EPHEMERAL}, "shell": {"--root", "--me", _EPHEMERAL}}


@dataclass(frozen=True)
class PlainCall:
    """The arguments of a plain exec or shell."""

    name: str
    identity: Asked | None
    arguments: tuple[str, ...] | None  # None: a shell
    ephemeral: bool = False  # in a throwaway environment on top of that one


def run(arguments: Sequence[str]) -> int | None:
    """Become the command of a plain call. Returns the exit status if that fails, None if the call is not plain."""
    call = parsed(arguments)
    return None if call is None else failures.guarded(lambda: _become(call), failures.EXIT_BEFORE_COMMAND)


def _become(call: PlainCall) -> None:
    """Become the command. Returns if anything has to be done, asked or told before."""
    store = rootstore.of_user()
    if (environment := _loaded(store, call)) is None:
        return
    # What comes next is imported while its supervisor begins; a throwaway one is still to be made.
    emulated = None if call.ephemeral else supervised.emulation_of(store, environment)
    from sysenv_ns import notices, session
    from sysenv_ns.command import Command
    from sysenv_ns.reporter import Reporter

    if (ready := _ready(store, environment, call)) is None:
        if emulated is not None:
            emulated.supervisor.dismiss()
        return
    ask = _asked if notices.can_ask() else None
    reporter = Reporter(notices.notice, lambda message: None, _progress, ask)
    session.run(store, ready, Command(call.arguments, call.identity), reporter, emulated)


def parsed(arguments: Sequence[str]) -> PlainCall | None:
    """A plain call: exec [--root|--me|--linked|--ephemeral] NAME [--] COMMAND..., or the same of shell with NAME alone.

    None for others.
    """
    verb, *rest = arguments or ("",)
    if verb not in _OPTIONS:
        return None
    identity: Asked | None = None
    is_ephemeral = False
    while rest and (option := rest[0]) in _OPTIONS[verb]:
        identity = _IDENTITIES.get(option, identity)
        is_ephemeral |= option == _EPHEMERAL
        del rest[0]
    if not rest or not rest[0] or rest[0].startswith("-"):
        return None
    name, *command = rest
    if verb == "shell":
        return None if command else PlainCall(name, identity, None, is_ephemeral)
    if command[:1] == ["--"]:
        command = command[1:]
    elif command and command[0].startswith("-"):  # an option at the wrong place
        return None
    return PlainCall(name, identity, tuple(command), is_ephemeral) if command else None


def _loaded(store: Store, call: PlainCall) -> Environment | None:
    """The environment that is named; None where there is none that could be entered."""
    try:
        if os.environ.get("SYSENV_NS") or not store.exists(call.name):
            return None
        environment = store.load(call.name)
        environment.require_root()
    except SysenvError:
        return None
    return environment


def _ready(store: Store, environment: Environment, call: PlainCall) -> Environment | None:
    """The environment to enter; None if anything has to be done, asked or told before."""
    from sysenv_ns.environment import ephemeral, running, transaction
    from sysenv_ns.packages import origin

    try:
        if running.inside() or ephemeral.are_in_the_way(store) or transaction.abandoned(store.trash):
            return None
        if call.ephemeral:
            from sysenv_ns.environment import throwaway

            return throwaway.on_top(store, call.name, ephemeral.new_name(store))
        return None if origin.may_be_drifted(environment) else environment
    except SysenvError:
        return None


def _progress() -> AbstractContextManager[Callable[[float], None]]:
    from sysenv_ns import quick_verbs  # rarely there is anything to show

    return quick_verbs.bar("Reading the host")


def _asked(question: str) -> bool:
    """See console.asked. Raises KeyboardInterrupt."""
    from sysenv_ns import libraries  # once after each boot there may be something to ask

    libraries.find()
    import click

    from sysenv_ns import console

    try:
        return console.asked(question)
    except click.Abort:
        raise KeyboardInterrupt from None
