"""The commands about links; like all of the command line they parse, call and render."""

from __future__ import annotations

import click

from sysenv_ns.commands.console import JSON, NAME, Context, notice, refuse_inside, show


@click.command()
@NAME
@click.argument("command")
@JSON
@click.pass_obj
def which(context: Context, name: str, command: str, as_json: bool) -> None:
    """Show where a command lies in an environment."""
    refuse_inside("look into an environment")
    from dataclasses import asdict

    from sysenv_ns import render
    from sysenv_ns.home import linking

    found = linking.which(context.store, name, command, context.reporter)
    show(render.as_json(asdict(found)) if as_json else found.path)


@click.command()
@click.option("--desktop", "with_entries", is_flag=True, help="Their entries and icons for menus too.")
@JSON
@NAME
@click.argument("commands", metavar="COMMAND...", nargs=-1, required=True)
@click.pass_obj
def link(context: Context, name: str, commands: tuple[str, ...], with_entries: bool, as_json: bool) -> None:
    """Make commands of an environment yours. Each gets a small script in ~/.local/bin."""
    refuse_inside("link commands")
    from dataclasses import asdict

    from sysenv_ns import render
    from sysenv_ns.home import linking, links

    made = linking.link(context.store, name, commands, with_entries, context.reporter, context.caller)
    if as_json:
        show(render.as_json([asdict(found) for found in made.links]))
    for found in made.links:
        notice(f"linked {render.link(found)}")
    for command in made.without_entry:
        notice(f"{name} has no desktop entry that starts {command}")
    if not linking.on_path():
        notice(f"{links.directory()} is not on your PATH")


@click.command()
@NAME
@click.argument("commands", metavar="[COMMAND...]", nargs=-1)
@JSON
@click.pass_obj
def unlink(context: Context, name: str, commands: tuple[str, ...], as_json: bool) -> None:
    """Remove links, all of them where none is named. What you have changed or replaced yourself stays."""
    refuse_inside("remove links")
    from dataclasses import asdict

    from sysenv_ns import render
    from sysenv_ns.home import linking

    gone = linking.unlink(context.store, name, commands, context.caller)
    if as_json:
        show(render.as_json([asdict(found) for found in gone]))
    for found in gone:
        notice(f"unlinked {found.path}" if found.intact else f"{found.path} was not a link any more")
    if not gone:
        notice(f"{name} has no links")


COMMANDS = (which, link, unlink)
