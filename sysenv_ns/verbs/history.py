"""history: the snapshots of an environment."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sysenv_ns.console import show, show_json
from sysenv_ns.environment import history
from sysenv_ns.environment.history import Frozen, History
from sysenv_ns.text import date, size, table, timestamp
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command("history", epilog=examples("sysenv-ns history proj"))
@NAME
@JSON
@click.pass_obj
def command(context: Context, name: str, as_json: bool) -> None:
    """Show the snapshots of an environment."""
    refuse_inside("read the history of an environment")
    result = history.history(context.store, name)
    if as_json:
        show_json(as_data(result))
    else:
        show(text(result))


def as_data(result: History) -> dict[str, Any]:
    """For --json."""
    return {**asdict(result), "snapshots": [snapshot_data(found) for found in result.snapshots]}


def snapshot_data(found: Frozen) -> dict[str, Any]:
    """A snapshot for --json."""
    return {**asdict(found), "created": timestamp(found.created)}


def text(result: History) -> str:
    """A table."""
    rows = [("SNAPSHOT", "CREATED", "SIZE", "")]
    for found in result.snapshots:
        notes = ["now"] * found.current + ["kept by a rollback"] * found.automatic
        rows.append((found.label, date(found.created), size(found.size), ", ".join(notes)))
    return table([*rows, ("(since)", "", size(result.size), "")])
