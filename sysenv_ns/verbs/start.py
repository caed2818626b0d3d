"""start: starts the services that are enabled in an environment, or some of them."""

from __future__ import annotations

import click

from sysenv_ns import units
from sysenv_ns.command import Command
from sysenv_ns.errors import SysenvError
from sysenv_ns.verbs import entry
from sysenv_ns.verbs.context import Context
from sysenv_ns.verbs.create import New
from sysenv_ns.verbs.options import NAME, examples


@click.command(
    "start",
    epilog=examples("sysenv-ns start proj  # all services that are enabled", "sysenv-ns start proj redis-server"),
)
@NAME
@click.argument("services", metavar="[UNIT...]", nargs=-1)
@click.option("--services", "enabled", is_flag=True, help="Start all that are enabled in it (the default).")
@click.pass_obj
def command(context: Context, name: str, services: tuple[str, ...], enabled: bool) -> None:
    """Start the services of an environment.

    It starts each UNIT, or without UNIT all services that its packages or you have enabled inside. They run until they
    are stopped. Services of this system are not started a second time.
    """
    if enabled and services:
        raise click.UsageError("--services needs no UNIT.")
    environment = context.store.load(name)
    environment.require_root()
    order = ("start", *services) if services else ("start-enabled", *_enabled(environment.name, context))
    arguments = (units.SYSTEMCTL, *order)
    entry.enter(context, name, Command(arguments, "root", context.caller), New(None, None))


def _enabled(name: str, context: Context) -> tuple[str, ...]:
    if found := units.enabled(context.store.load(name)):
        return found
    raise SysenvError(f"no service is enabled in {name}", f"sysenv-ns exec {name} -- systemctl enable UNIT")
