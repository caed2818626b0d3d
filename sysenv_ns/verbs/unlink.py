"""unlink: removes links that link has made."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from sysenv_ns.console import show_json
from sysenv_ns.home import programs, services
from sysenv_ns.notices import notice
from sysenv_ns.text import quoted
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command("unlink", epilog=examples("sysenv-ns unlink proj rg", "sysenv-ns unlink proj  # all of them"))
@NAME
@click.argument("commands", metavar="[COMMAND...]", nargs=-1)
@click.option("--service", "units", metavar="UNIT", multiple=True, help="This service; it goes on if it runs.")
@JSON
@click.pass_obj
def command(context: Context, name: str, commands: tuple[str, ...], units: tuple[str, ...], as_json: bool) -> None:
    """Remove links: the given ones, or all. Files that you have changed or replaced yourself stay."""
    refuse_inside("remove links")
    wanted = (*commands, *map(services.full_name, units))
    gone = programs.unlink(context.store, name, wanted, context.caller)
    if as_json:
        show_json({"links": [asdict(found) for found in gone]})
    for found in gone:
        notice(f"unlinked {quoted(found.path)}" if found.intact else f"{quoted(found.path)} was no longer a link")
    if any(os.path.dirname(found.path) == str(services.directory()) for found in gone):
        services.tell_manager(os.environ)
    if not gone:
        notice(f"{name} has no links")
