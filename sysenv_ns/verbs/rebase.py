"""rebase: updates an environment to today's host."""

from __future__ import annotations

from dataclasses import asdict

import click

from sysenv_ns import units
from sysenv_ns.console import asked, progress, show, show_json
from sysenv_ns.notices import can_ask, notice
from sysenv_ns.rebase import rebase, shown
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command(
    "rebase", epilog=examples("sysenv-ns rebase --dry-run proj  # what would be done", "sysenv-ns rebase proj")
)
@NAME
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Let apt repair broken dependencies without asking.")
@click.option("--files-only", is_flag=True, help="Keep package databases that cannot be merged, and rebase the rest.")
@click.option(
    "--assume-current",
    is_flag=True,
    help="Where the origin is unknown, treat all that differs from this system as the environment's own changes.",
)
@JSON
@click.pass_obj
def command(
    context: Context, name: str, dry_run: bool, yes: bool, files_only: bool, assume_current: bool, as_json: bool
) -> None:
    """Update an environment to this system as it is today."""
    refuse_inside("rebase an environment")

    def agree(said: str) -> bool:
        notice(f"dependencies of {name} are broken on this system:\n{said}")
        if yes:
            return True
        return can_ask() and asked("Let apt repair them (apt-get --fix-broken install)?")

    options = rebase.RebaseOptions(dry_run, files_only, assume_current)
    with units.paused(context.store, name, context.reporter):
        result = rebase.run(context.store, name, options, agree, context.reporter, lambda: progress(f"Rebasing {name}"))
    if as_json:
        show_json(asdict(result))
    else:
        show(shown.text(result))
    if result.done and result.operations:
        notice(f"rebased {name}")
