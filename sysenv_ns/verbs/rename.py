"""rename: gives an environment another name."""

from __future__ import annotations

import click

from sysenv_ns import status
from sysenv_ns.console import show_json
from sysenv_ns.environment import history
from sysenv_ns.environment.store import check_name
from sysenv_ns.notices import notice
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples
from sysenv_ns.verbs.status import as_data


@click.command("rename", epilog=examples("sysenv-ns rename proj better"))
@click.argument("source", metavar="OLD")
@NAME
@JSON
@click.pass_obj
def command(context: Context, source: str, name: str, as_json: bool) -> None:
    """Rename the environment OLD to NAME. It must not be running or have links; its history stays.

    A sysenv.toml that names it keeps the old name until you change it there.
    """
    refuse_inside("rename an environment")
    history.rename(context.store, check_name(source), check_name(name))
    if as_json:
        show_json(as_data(status.of(context.store, name)))
    notice(f"renamed {source} to {name}; enter it with: sysenv-ns shell {name}")
