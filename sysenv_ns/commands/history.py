"""The commands snapshot, history, rollback and clone: parse, call, render."""

from __future__ import annotations

from dataclasses import asdict

import click

from sysenv_ns.commands.console import JSON, NAME, Context, notice, refuse_inside, show
from sysenv_ns.store import check_name


@click.command()
@NAME
@click.argument("label", required=False)
@click.option("--delete", is_flag=True, help="Forget the snapshot LABEL; the environment stays what it is.")
@JSON
@click.pass_obj
def snapshot(context: Context, name: str, label: str | None, delete: bool, as_json: bool) -> None:
    """Keep the state of an environment, to go back to. It is called LABEL, or by the time without one.

    It takes a moment and no room: what has changed so far is frozen, and further changes lie above it.
    """
    refuse_inside("make a snapshot")
    from sysenv_ns import render
    from sysenv_ns.snapshots import history

    if delete:
        if label is None:
            raise click.UsageError("Missing argument 'LABEL'.")
        history.delete(context.store, name, label)
        notice(f"deleted the snapshot {label} of {name}")
        return
    made = history.snapshot(context.store, name, label)
    if as_json:
        show(render.as_json(asdict(made)))
    notice(f"{name} can go back to this state with: sysenv-ns rollback {name} {made.label}")


@click.command(name="history")
@NAME
@JSON
@click.pass_obj
def history_(context: Context, name: str, as_json: bool) -> None:
    """Show the snapshots of an environment."""
    from sysenv_ns import render
    from sysenv_ns.snapshots import history

    result = history.history(context.store, name)
    show(render.as_json(asdict(result)) if as_json else render.history(result))


@click.command()
@NAME
@click.argument("label")
@JSON
@click.pass_obj
def rollback(context: Context, name: str, label: str, as_json: bool) -> None:
    """Let an environment be what it was. The state before becomes a snapshot too."""
    refuse_inside("roll back an environment")
    from sysenv_ns import render
    from sysenv_ns.snapshots import history

    result = history.rollback(context.store, name, label)
    if as_json:
        show(render.as_json(asdict(result)))
    back = f"; the state before: sysenv-ns rollback {name} {result.kept}" if result.kept else ""
    notice(f"{name} is what it was at {label}{back}")


@click.command()
@click.argument("source")
@NAME
@click.option("--snapshot", "label", metavar="LABEL", help="What SOURCE was at a snapshot, also while it runs.")
@JSON
@click.pass_obj
def clone(context: Context, source: str, name: str, label: str | None, as_json: bool) -> None:
    """Make another environment of one. NAME has what SOURCE has, also its history; from then on they are apart.

    It takes a moment, and no room but for what either of them changes later.
    """
    refuse_inside("clone an environment")
    from sysenv_ns import lifecycle, render
    from sysenv_ns.snapshots import history

    history.clone(context.store, check_name(source), check_name(name), label=label)
    if as_json:
        show(render.as_json(render.status_json(lifecycle.status(context.store, name))))
    notice(f"created {name} from {source}; enter it with: sysenv-ns shell {name}")


COMMANDS = (snapshot, history_, rollback, clone)
