"""refresh: compares every file of a base with the host."""

from __future__ import annotations

from dataclasses import asdict

import click

from sysenv_ns.console import show_json
from sysenv_ns.drivers import driver
from sysenv_ns.environment import config
from sysenv_ns.environment.store import Store, check_name
from sysenv_ns.lower.upkeep import Refreshed
from sysenv_ns.notices import notice
from sysenv_ns.reporter import Reporter
from sysenv_ns.text import count
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples


@click.command("refresh", epilog=examples("sysenv-ns refresh", "sysenv-ns refresh proj  # the base of this one alone"))
@click.argument("name", required=False)
@JSON
@click.pass_obj
def command(context: Context, name: str | None, as_json: bool) -> None:
    """Compare the shared base with this system, file by file. It compares the base of NAME, or all bases.

    Upgrades and most other changes are noticed at each start. This also finds files that were edited in place deep
    below /usr. Running environments keep their files until they are stopped.
    """
    refuse_inside("refresh the base")
    result = refresh(context.store, name, context.reporter)
    if as_json:
        show_json(asdict(result))
    notice(text(result))


def refresh(store: Store, name: str | None, reporter: Reporter) -> Refreshed:
    """Compare one environment's base with the host, or all bases, and renew what differs. Raises SysenvError."""
    names = [check_name(name)] if name is not None else store.names()
    environments = [store.load(found) for found in names]
    bases = {own.path: (own, found) for found in environments if (own := driver.base_of(store, found)) is not None}
    refreshed = Refreshed()
    for own, environment in bases.values():
        used = driver.of(environment)
        used.agree(store, reporter.ask, by_name=True)
        host = used.surveyed(environment, config.host(store, environment))
        refreshed += own.refresh(host, reporter)
    return refreshed


def text(result: Refreshed) -> str:
    """The result in a line."""
    if result == Refreshed():
        return "the base is up to date"
    return f"refreshed {count(result.files, 'file')} in {count(result.directories, 'directory', 'directories')}"
