"""The command diff: parse, call, render."""

from __future__ import annotations

import os
import sys

import click

from sysenv_ns.commands.console import JSON, NAME, Context, notice, refuse_inside

_DIFFERENT = 1


@click.command()
@NAME
@click.argument("paths", metavar="[-- PATH...]", nargs=-1)
@click.option("--packages", is_flag=True, help="Only packages, with their versions.")
@click.option("--files", is_flag=True, help="Every path, not grouped by package.")
@click.option("--all", "everything", is_flag=True, help="Caches, logs and package databases too.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@JSON
@click.pass_obj
def diff(
    context: Context,
    name: str,
    paths: tuple[str, ...],
    packages: bool,
    files: bool,
    everything: bool,
    exit_code: bool,
    as_json: bool,
) -> None:
    """Show what an environment changed. It is compared with this system as it is now, whether it runs or not.

    With a PATH: the text difference of that file, or of all that is changed below that directory. The exit status is
    0, whether there are differences or not.
    """
    refuse_inside("compare an environment")
    from sysenv_ns import render
    from sysenv_ns.diff import difference, render_difference

    found = difference.find(context.store, name, [os.path.join(os.getcwd(), path) for path in paths])
    terminal = not as_json and sys.stdout.isatty()
    paint = _paint if terminal else _plain
    parts = []
    if as_json:
        parts.append(render.as_json(render_difference.as_data(found)))
    elif paths and not (packages or files):
        text = render_difference.patches(difference.contents(context.store, found), name, paint, terminal)
        parts.append(text.removesuffix("\n"))
    elif packages or files:
        parts += [render_difference.packages(found, paint)] if packages else []
        parts += [render_difference.files(found, everything, paint)] if files else []
    else:
        parts.append(render_difference.summary(found, everything, paint))
    _print("\n".join(part for part in parts if part), terminal, context)
    if not as_json:
        for note in found.notes:
            notice(note)
        if not (found.changes or found.packages or found.notes):
            notice(f"nothing is changed {'there' if paths else f'in {name}'}")
    if exit_code and (found.changes or found.packages):
        raise click.exceptions.Exit(_DIFFERENT)


def _plain(text: str, colour: str) -> str:
    return text


def _paint(text: str, colour: str) -> str:
    if colour == "bold":
        return click.style(text, bold=True)
    return click.style(text, fg=colour) if colour else text


def _print(text: str, terminal: bool, context: Context) -> None:
    """To stdout, on a terminal through the pager; a path that is no text is printed as the bytes that it is."""
    from sysenv_ns.diff import pager

    data = os.fsencode(f"{text}\n") if text else b""
    command = pager.program() if terminal and data else None
    if command is None:
        click.echo(data, nl=False)
    else:
        pager.show(data, command, context.caller)


COMMANDS = (diff,)
