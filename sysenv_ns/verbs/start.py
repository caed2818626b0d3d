"""start: starts the services that are enabled in an environment, or some of them."""

from __future__ import annotations

import click

from sysenv_ns import units
from sysenv_ns.command import Command
from sysenv_ns.environment.description import Environment
from sysenv_ns.errors import SysenvError
from sysenv_ns.verbs import entry
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.create import New
from sysenv_ns.verbs.options import NAME, examples

_TARGET = "multi-user.target"  # what pulls in all that is enabled


@click.command(
    "start",
    epilog=examples("sysenv-ns start proj  # all services that are enabled", "sysenv-ns start proj redis-server"),
)
@NAME
@click.argument("services", metavar="[UNIT...]", nargs=-1)
@click.option("--services", "enabled", is_flag=True, help="Start all that are enabled in it (the default).")
@click.option(
    "--foreground",
    is_flag=True,
    help="Boot one with systemd as its process 1, and stay until that ends: for a unit with Type=notify, Delegate=yes.",
)
@click.pass_obj
def command(context: Context, name: str, services: tuple[str, ...], enabled: bool, foreground: bool) -> None:
    """Start the services of an environment.

    It starts each UNIT, or without UNIT all services that its packages or you have enabled inside. They run until they
    are stopped. Services of this system are not started a second time.
    """
    if enabled and services:
        raise click.UsageError("--services needs no UNIT.")
    environment = context.store.load(name)
    environment.require_root()
    if foreground:
        _keep(context, environment, services)
        return
    if environment.init:
        order: tuple[str, ...] = ("start", *services) if services else ("start", _TARGET)
        entry.enter(context, name, Command(("systemctl", *order), "root", context.caller), New(None, None))
    order = ("start", *services) if services else ("start-enabled", *_enabled(environment.name, context))
    arguments = (units.SYSTEMCTL, *order)
    entry.enter(context, name, Command(arguments, "root", context.caller), New(None, None))


def _keep(context: Context, environment: Environment, services: tuple[str, ...]) -> None:
    from sysenv_ns import keeper

    if services or not environment.init:
        raise click.UsageError("--foreground is for an environment that was made with --init, and needs no UNIT.")
    refuse_inside("boot an environment")
    keeper.keep(context.store, environment.name, context.reporter)


def _enabled(name: str, context: Context) -> tuple[str, ...]:
    if found := units.enabled(context.store.load(name)):
        return found
    raise SysenvError(f"no service is enabled in {name}", f"sysenv-ns exec {name} -- systemctl enable UNIT")
