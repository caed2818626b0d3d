"""logs: the output of services of an environment."""

from __future__ import annotations

import click

from sysenv_ns import units
from sysenv_ns.command import Command
from sysenv_ns.verbs import entry
from sysenv_ns.verbs.context import Context
from sysenv_ns.verbs.create import New
from sysenv_ns.verbs.options import NAME, examples


@click.command(
    "logs",
    epilog=examples(
        "sysenv-ns logs proj",
        "sysenv-ns logs -f proj redis-server  # go on with what it says",
        "sysenv-ns logs -n 20 proj",
    ),
)
@NAME
@click.argument("unit", required=False)
@click.option("-f", "--follow", is_flag=True, help="Keep running, and show new output as it comes.")
@click.option("-n", "--lines", type=click.IntRange(0), help="Show only this many lines, the last ones.")
@click.pass_obj
def command(context: Context, name: str, unit: str | None, follow: bool, lines: int | None) -> None:
    """Show the output of services: of UNIT, or of all."""
    environment = context.store.load(name)
    environment.require_root()
    of_all = () if environment.init else ("--services",)  # the real journalctl has these and its own
    arguments = [units.JOURNALCTL, *(("-u", unit) if unit else of_all)]
    arguments += ["--follow"] if follow else []
    arguments += ["-n", str(lines)] if lines is not None else []
    entry.enter(context, name, Command(tuple(arguments), "root", context.caller), New(None, None))
