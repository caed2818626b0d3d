"""rollback: restores an environment to a snapshot."""

from __future__ import annotations

from dataclasses import asdict

import click

from sysenv_ns import units
from sysenv_ns.console import show_json
from sysenv_ns.environment import history
from sysenv_ns.notices import notice
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command("rollback", epilog=examples("sysenv-ns rollback proj working"))
@NAME
@click.argument("label")
@JSON
@click.pass_obj
def command(context: Context, name: str, label: str, as_json: bool) -> None:
    """Restore an environment to a snapshot. The state before is kept as a snapshot too."""
    refuse_inside("roll back an environment")
    with units.paused(context.store, name, context.reporter):
        result = history.rollback(context.store, name, label)
    if as_json:
        show_json(asdict(result))
    back = f"; to return to the state before: sysenv-ns rollback {name} {result.kept}" if result.kept else ""
    notice(f"restored {name} to {label}{back}")
