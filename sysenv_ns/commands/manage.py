"""The commands that show and keep environments: list, status, rebase, stop, refresh, remove, doctor."""

from __future__ import annotations

import sys

import click

from sysenv_ns.commands.console import JSON, NAME, Context, notice, refuse_inside, show
from sysenv_ns.errors import EXIT_FAILURE
from sysenv_ns.store import check_name


@click.command(name="list")
@JSON
@click.pass_obj
def list_(context: Context, as_json: bool) -> None:
    """Show all environments."""
    from sysenv_ns import lifecycle, render

    lifecycle.remove_ended(context.store)
    statuses = lifecycle.list_all(context.store)
    if as_json:
        click.echo(render.as_json([render.status_json(s) for s in statuses]))
    elif statuses:
        click.echo(render.listing(statuses))
    else:
        notice("there are no environments; make one with: sysenv-ns shell NAME")


@click.command()
@NAME
@JSON
@click.pass_obj
def status(context: Context, name: str, as_json: bool) -> None:
    """Show one environment and its processes."""
    from sysenv_ns import lifecycle, render

    result = lifecycle.status(context.store, name)
    show(render.as_json(render.status_json(result)) if as_json else render.status(result))


@click.command()
@NAME
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
@click.option("--yes", is_flag=True, help="Let apt repair dependencies without asking.")
@click.option("--files-only", is_flag=True, help="Leave package databases alone that cannot be merged.")
@click.option("--assume-current", is_flag=True, help="For an environment that an older sysenv-ns has made.")
@JSON
@click.pass_obj
def rebase(
    context: Context, name: str, dry_run: bool, yes: bool, files_only: bool, assume_current: bool, as_json: bool
) -> None:
    """Carry an environment over to this system as it is today."""
    refuse_inside("rebase an environment")
    from dataclasses import asdict

    from sysenv_ns import render
    from sysenv_ns.rebase import rebasing

    def agree(said: str) -> bool:
        notice(f"dependencies of {name} are broken on this system:\n{said}")
        if yes:
            return True
        return sys.stdin.isatty() and click.confirm("Let apt repair them (apt-get --fix-broken install)?", err=True)

    options = rebasing.Options(dry_run, files_only, assume_current)
    result = rebasing.run(context.store, name, options, agree, context.reporter)
    show(render.as_json(asdict(result)) if as_json else render.rebase(result))
    if result.done:
        notice(f"rebased {name}")


@click.command()
@NAME
@click.option("--time", "grace", type=click.FloatRange(0), default=10.0, help="Seconds before SIGKILL (10).")
@click.pass_obj
def stop(context: Context, name: str, grace: float) -> None:
    """End all processes of an environment."""
    refuse_inside("stop an environment")
    from sysenv_ns import lifecycle, render

    ended = lifecycle.stop(context.store, name, grace)
    for process in ended:
        notice(f"ended {render.process_line(process)}")
    if not ended:
        notice(f"{name} was not running")


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def refresh(context: Context, name: str | None) -> None:
    """Compare every file with what environments share. That is done for the base of NAME, or of all.

    Upgrades and most other changes are noticed at each start. This also finds files that were edited in place deep
    below /usr. Environments that run keep what they have until they are stopped.
    """
    refuse_inside("refresh the base")
    from sysenv_ns import lifecycle, render

    notice(render.refreshed(lifecycle.refresh(context.store, name, context.reporter)))


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--base", "with_base", is_flag=True, help="Delete the base too, where no environment needs it any more.")
@click.pass_obj
def remove(context: Context, names: tuple[str, ...], with_base: bool) -> None:
    """Delete environments with all that is in them."""
    if not names and not with_base:
        raise click.UsageError("Missing argument 'NAME...'.")
    refuse_inside("remove an environment")
    from sysenv_ns import lifecycle

    for name in names:
        lifecycle.remove(context.store, check_name(name), context.caller)
        notice(f"removed {name}")
    for base in lifecycle.remove_unused_bases(context.store) if with_base else ():
        notice(f"removed the base {base}")


@click.command()
@JSON
@click.pass_obj
def doctor(context: Context, as_json: bool) -> None:
    """Find out what works here, and what to do about the rest."""
    from dataclasses import asdict

    from sysenv_ns import doctor as doctor_module
    from sysenv_ns import render

    result = doctor_module.diagnose(context.store)
    click.echo(render.as_json(asdict(result)) if as_json else render.diagnosis(result))
    if result.driver is None:
        raise click.exceptions.Exit(EXIT_FAILURE)


COMMANDS = (list_, status, rebase, stop, refresh, remove, doctor)
