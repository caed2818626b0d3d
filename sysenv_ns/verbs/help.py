"""help: the help of a verb, as its --help shows it."""

from __future__ import annotations

import click

from sysenv_ns.console import show
from sysenv_ns.verbs.options import examples


@click.command("help", epilog=examples("sysenv-ns help diff"))
@click.argument("verb", required=False)
@click.pass_context
def command(context: click.Context, verb: str | None) -> None:
    """Show the help of a command, or the list of all."""
    group = context.find_root()
    assert isinstance(group.command, click.Group)
    if verb is None:
        show(group.get_help())
        return
    name, found, _ = group.command.resolve_command(group, [verb])
    assert found is not None
    with click.Context(found, info_name=name, parent=group) as shown:
        show(shown.get_help())
