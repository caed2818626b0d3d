"""clone: copies an environment; the copy shares its files."""

from __future__ import annotations

import contextlib

import click

from sysenv_ns import status, units
from sysenv_ns.console import show_json
from sysenv_ns.environment import history
from sysenv_ns.environment.store import check_name
from sysenv_ns.notices import notice
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import DRIVER, JSON, NAME, examples
from sysenv_ns.verbs.status import as_data


@click.command(
    "clone",
    epilog=examples("sysenv-ns clone proj other", "sysenv-ns clone --snapshot working proj other  # as it was then"),
)
@click.argument("source")
@NAME
@click.option("--snapshot", "label", metavar="LABEL", help="Copy SOURCE as it was at this snapshot; it may be running.")
@DRIVER
@JSON
@click.pass_obj
def command(context: Context, source: str, name: str, label: str | None, driver: str | None, as_json: bool) -> None:
    """Copy an environment. NAME starts with the changes and the history of SOURCE; then they are independent.

    It is instant, and takes only the space of later changes. With --driver the copy gets another
    driver than SOURCE has.
    """
    refuse_inside("clone an environment")
    driver = _tried(context, source, driver) if driver else None
    with units.paused(context.store, source, context.reporter) if label is None else contextlib.nullcontext():
        history.clone(context.store, check_name(source), check_name(name), label=label, driver=driver)
    if as_json:
        show_json(as_data(status.of(context.store, name)))
    notice(f"created {name} from {source}; enter it with: sysenv-ns shell {name}")


def _tried(context: Context, source: str, driver: str) -> str:
    """A driver that works here with the id map of an environment. Raises SysenvError."""
    from sysenv_ns.drivers import choose

    environment = context.store.load(source)
    if driver != "auto":
        history.check_driver(environment, driver)
    id_map = environment.id_map
    name, _ = choose.choose(context.store, driver, id_map.kind if id_map else "auto", context.reporter.ask)
    return name
