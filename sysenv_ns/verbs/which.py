"""which: shows where a command is in an environment."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from sysenv_ns.console import show, show_data, show_json
from sysenv_ns.home import programs
from sysenv_ns.notices import on_terminal
from sysenv_ns.text import quoted
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command("which", epilog=examples("sysenv-ns which proj rg"))
@NAME
@click.argument("command")
@JSON
@click.pass_obj
def command(context: Context, name: str, command: str, as_json: bool) -> None:
    """Show where a command is in an environment."""
    refuse_inside("look into an environment")
    found = programs.which(context.store, name, command, context.reporter)
    if as_json:
        show_json(asdict(found))
    elif on_terminal():
        show(quoted(found.path))
    else:
        show_data(os.fsencode(f"{found.path}\n"))
