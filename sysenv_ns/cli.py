"""The command line: parse, call, render; it and the modules with more commands are all that prints and exits."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sysenv_ns import __version__, sudo
from sysenv_ns.commands import diff, entry, history, links
from sysenv_ns.commands.console import JSON, NAME, Context, notice, refuse_inside, show
from sysenv_ns.errors import EXIT_FAILURE, NeedsRoot, SysenvError, reason
from sysenv_ns.kernel import remedies
from sysenv_ns.lower.upkeep import Progress
from sysenv_ns.session import Reporter
from sysenv_ns.store import Store, check_name, location

EXIT_BEFORE_COMMAND = 125


def _operation(text: str) -> None:
    click.echo(f"+ {text}", err=True)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal, nothing otherwise."""
    steps = 1000
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda fraction: None
        return
    with click.progressbar(length=steps, label="Reading the host", file=sys.stderr) as bar:

        def report(fraction: float) -> None:
            bar.update(max(0, int(fraction * steps) - bar.pos))

        yield report


class _Group(click.Group):
    """Turns every SysenvError into its message and exit status; no traceback reaches a user."""

    default_status = EXIT_FAILURE

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke_or_rerun(ctx)
        except SysenvError as error:
            failure = error
        except BrokenPipeError:  # click ends quietly
            raise
        except OSError as error:
            hint = remedies.storage(error, location())
            failure = SysenvError(f"{error.filename or 'a system call'}: {reason(error)}", hint)
        notice(failure.message)
        if failure.hint:
            click.echo(f"hint: {failure.hint}", err=True)
        before_command = ctx.invoked_subcommand in ("exec", "shell")
        default = EXIT_BEFORE_COMMAND if before_command else EXIT_FAILURE
        return ctx.exit(default if failure.exit_status is None else failure.exit_status)

    def _invoke_or_rerun(self, ctx: click.Context) -> Any:
        """Where only root can do it, sudo is used; never silently."""
        arguments = [*ctx._protected_args, *ctx.args]
        try:
            return super().invoke(ctx)
        except NeedsRoot as need:
            if not sudo.available() or os.geteuid() == 0:
                raise
            notice(f"{need.message}: continuing with sudo")
            if need.remedy:
                click.echo(f"hint: to do without: {need.remedy}", err=True)
            verbose = ["--verbose"] if ctx.params["verbose"] else []
            sudo.rerun(ctx.obj.store, [*verbose, *arguments])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sysenv-ns", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Print every mount operation as it is done.")
@click.option("--request", hidden=True, type=click.Path(path_type=Path), help="What sysenv-ns gives to sudo.")
@click.pass_context
def main(context: click.Context, verbose: bool, request: Path | None) -> None:
    """A virtualenv for system packages, without root.

    Inside an environment everything is as on this machine, but what is written to system directories stays in the
    environment.
    """
    operation = _operation if verbose else lambda text: None
    caller = sudo.receive(request) if request else None
    store = Store(location(), caller.uid if caller else None)
    context.obj = Context(store, Reporter(notice, operation, _progress), caller)


@main.command(name="list")
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


@main.command()
@NAME
@JSON
@click.pass_obj
def status(context: Context, name: str, as_json: bool) -> None:
    """Show one environment and its processes."""
    from sysenv_ns import lifecycle, render

    result = lifecycle.status(context.store, name)
    show(render.as_json(render.status_json(result)) if as_json else render.status(result))


@main.command()
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


@main.command()
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


@main.command()
@click.argument("name", required=False)
@click.pass_obj
def refresh(context: Context, name: str | None) -> None:
    """Compare every file of the host with the base that environments share, of NAME or of all.

    Upgrades and most other changes are noticed at each start. This also finds files that were edited in place deep
    below /usr. Environments that run keep what they have until they are stopped.
    """
    refuse_inside("refresh the base")
    from sysenv_ns import lifecycle, render

    notice(render.refreshed(lifecycle.refresh(context.store, name, context.reporter)))


@main.command()
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


@main.command()
@JSON
@click.pass_obj
def doctor(context: Context, as_json: bool) -> None:
    """Find out which drivers and id maps work here, and what to do about the others."""
    from dataclasses import asdict

    from sysenv_ns import doctor as doctor_module
    from sysenv_ns import render

    result = doctor_module.diagnose(context.store)
    click.echo(render.as_json(asdict(result)) if as_json else render.diagnosis(result))
    if result.driver is None:
        raise click.exceptions.Exit(EXIT_FAILURE)


for _command in (command for module in (entry, diff, history, links) for command in module.COMMANDS):
    main.add_command(_command)
