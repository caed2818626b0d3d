"""snapshot: saves a state of an environment to go back to."""

from __future__ import annotations

from dataclasses import asdict

import click

from sysenv_ns import units
from sysenv_ns.console import show_json
from sysenv_ns.environment import history
from sysenv_ns.notices import notice
from sysenv_ns.text import timestamp
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command(
    "snapshot",
    epilog=examples(
        "sysenv-ns snapshot proj working",
        "sysenv-ns snapshot proj  # named after the time",
        "sysenv-ns snapshot --delete proj working",
    ),
)
@NAME
@click.argument("label", required=False)
@click.option("--delete", is_flag=True, help="Delete the snapshot LABEL; the environment stays as it is.")
@JSON
@click.pass_obj
def command(context: Context, name: str, label: str | None, delete: bool, as_json: bool) -> None:
    """Take a snapshot of an environment, to go back to. It is named LABEL, or after the time.

    It is instant and takes no space: the changes so far are frozen, and later ones go into a new layer above.
    """
    refuse_inside("make a snapshot")
    if delete:
        if label is None:
            raise click.UsageError("Missing argument 'LABEL'.")
        history.delete(context.store, name, label)
        notice(f"deleted the snapshot {label} of {name}")
        return
    with units.paused(context.store, name, context.reporter):
        made = history.snapshot(context.store, name, label)
    if as_json:
        show_json({**asdict(made), "created": timestamp(made.created)})
    notice(f"created the snapshot {made.label}; to go back to it: sysenv-ns rollback {name} {made.label}")
