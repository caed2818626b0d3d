"""path: a directory for PATH with the programs of an environment."""

from __future__ import annotations

import os

import click

from sysenv_ns.console import show, show_data
from sysenv_ns.environment import running, shims
from sysenv_ns.home import programs
from sysenv_ns.notices import on_terminal
from sysenv_ns.text import quoted
from sysenv_ns.verbs.context import Context
from sysenv_ns.verbs.options import NAME, examples


@click.command(
    "path",
    epilog=examples("sysenv-ns path proj", 'sysenv-ns path proj  # in .envrc: PATH_add "$(sysenv-ns path proj)"'),
)
@NAME
@click.pass_obj
def command(context: Context, name: str) -> None:
    """Show a directory for PATH with an environment's programs.

    It has those that the environment adds or changes, each as a script, as link makes them, that runs the program
    inside as you. It is brought up to date at each call. For direnv: PATH_add "$(sysenv-ns path NAME)" in .envrc.
    """
    if os.environ.get("SYSENV_NS") or running.inside():
        context.store.directory(name)
        found = shims.place(context.store, name)  # inside its scripts run what is there, and nothing can be looked at
    else:
        found = programs.path(context.store, name, context.reporter)
    if on_terminal():
        show(quoted(str(found)))
    else:
        show_data(os.fsencode(f"{found}\n"))
