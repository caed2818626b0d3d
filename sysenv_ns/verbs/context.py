"""The context that every verb gets, and the check that it does not run inside an environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

import click

from sysenv_ns.environment import running
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import EXIT_TROUBLE, SysenvError
from sysenv_ns.failures import EXIT_BEFORE_COMMAND
from sysenv_ns.reporter import Reporter
from sysenv_ns.sudo import Caller

# In click's notes to a call.
AS_JSON = f"{__name__}.json"  # there where errors are to be told as JSON
FAILURE_STATUS = f"{__name__}.failure"  # the exit status of a failure, if it is not 1


@dataclass(frozen=True)
class Context:
    """The store, how to report, and the user for whom root acts through sudo."""

    store: Store
    reporter: Reporter
    caller: Caller | None


def one_means_different() -> None:
    """For a verb that returns 1 for differences: give failures another exit status."""
    click.get_current_context().meta[FAILURE_STATUS] = EXIT_TROUBLE


def is_before_a_command() -> None:
    """For a call whose exit status is that of a command of the user's: let a failure before it have that of exec."""
    click.get_current_context().meta[FAILURE_STATUS] = EXIT_BEFORE_COMMAND


def refuse_inside(what: str) -> None:
    """Raise SysenvError inside an environment: its root cannot be the base of another one, as overlays do not nest."""
    name = os.environ.get("SYSENV_NS")
    if name or running.inside():
        raise SysenvError(
            f"cannot {what} from inside the environment {name or '(unknown)'}",
            "leave it first (exit), or use another terminal",
        )


def is_here(store: Store, name: str) -> bool:
    """Whether this process lives in the environment of that name."""
    sources = running.here()
    if not sources:
        return False
    if os.environ.get("SYSENV_NS") == name:
        return True
    try:
        return store.load(name).source in sources
    except SysenvError:  # the store need not be in reach there
        return False
