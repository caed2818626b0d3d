"""The command line: all commands together, and what becomes of errors. It and commands/ alone print and exit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from sysenv_ns import __version__, sudo
from sysenv_ns.commands import archive, diff, entry, history, links, manage, manifest, to_host
from sysenv_ns.commands.console import Context, notice, progress
from sysenv_ns.errors import EXIT_FAILURE, NeedsRoot, SysenvError, reason
from sysenv_ns.kernel import remedies
from sysenv_ns.session import Reporter
from sysenv_ns.store import Store, location

EXIT_BEFORE_COMMAND = 125
_SECTIONS = {
    "Environments": (entry, manage),
    "Changes and states": (diff, history),
    "Sharing": (archive, manifest),
    "On the host": (links, to_host),
}


def _operation(text: str) -> None:
    click.echo(f"+ {text}", err=True)


class _Group(click.Group):
    """Turns every SysenvError into its message and exit status; no traceback reaches a user."""

    default_status = EXIT_FAILURE

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in sections, as so many are too long a list."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, modules in _SECTIONS.items():
            with formatter.section(title):
                commands = [command for module in modules for command in module.COMMANDS]
                formatter.write_dl([(str(command.name), command.get_short_help_str(width)) for command in commands])

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
    context.obj = Context(store, Reporter(notice, operation, lambda: progress("Reading the host")), caller)


for _command in (command for modules in _SECTIONS.values() for module in modules for command in module.COMMANDS):
    main.add_command(_command)
