"""link: makes commands of an environment commands of the user, and its services units of the user's manager."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from sysenv_ns.console import show_json
from sysenv_ns.environment import links
from sysenv_ns.environment.links import Shown
from sysenv_ns.home import programs, services
from sysenv_ns.notices import notice
from sysenv_ns.text import quoted
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command(
    "link", epilog=examples("sysenv-ns link proj rg fd", "sysenv-ns link --desktop proj gimp  # its menu entries too")
)
@click.option("--desktop", "with_entries", is_flag=True, help="Also link their menu entries and icons.")
@click.option("--service", "units", metavar="UNIT", multiple=True, help="Start this service of NAME when you log in.")
@JSON
@NAME
@click.argument("commands", metavar="[COMMAND...]", nargs=-1)
@click.pass_obj
def command(
    context: Context, name: str, commands: tuple[str, ...], with_entries: bool, units: tuple[str, ...], as_json: bool
) -> None:
    """Make commands and services of an environment yours.

    Each command gets a small script in ~/.local/bin, each service an enabled unit of your own service manager
    (systemctl --user).
    """
    refuse_inside("link commands")
    if not commands and not units:
        raise click.UsageError("Give a COMMAND, or --service UNIT.")
    if with_entries and not commands:
        raise click.UsageError("--desktop needs a COMMAND.")
    made = _link_commands(context, name, commands, with_entries) if commands else ()
    if units:
        made += _link_services(context, name, units)
    if as_json:
        show_json({"links": [asdict(found) for found in made]})


def _link_commands(context: Context, name: str, commands: tuple[str, ...], with_entries: bool) -> tuple[Shown, ...]:
    made = programs.link(context.store, name, commands, with_entries, context.reporter, context.caller)
    for found in made.links:
        notice(f"linked {text(found)}")
    for without in made.without_entry:
        notice(f"{name} has no desktop entry that starts {quoted(without)}")
    if not programs.on_path():
        notice(f"{links.directory()} is not on your PATH")
    return made.links


def _link_services(context: Context, name: str, units: tuple[str, ...]) -> tuple[Shown, ...]:
    made = services.link(context.store, name, units, context.reporter, context.caller)
    is_there = services.tell_manager(os.environ)
    for found in made:
        unit = services.own_name(name, found.target)
        notice(f"linked {text(found)}")
        if is_there:
            notice(f"it starts when you log in; now: systemctl --user start {unit}")
    if not is_there:
        notice("no service manager of yours runs here: the unit is used as soon as one does, when you log in")
        notice(f"meanwhile: sysenv-ns start {name} {' '.join(found.target for found in made)}")
    return made


def text(shown: Shown) -> str:
    """A link in one line."""
    return f"{quoted(shown.path)}{'' if shown.intact else ' (deleted or replaced since)'} -> {quoted(shown.target)}"
