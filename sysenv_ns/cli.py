"""The command line: the group of all verbs, from errors to messages and exit status, and the way to sudo."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from sysenv_ns import __version__, failures, sudo, verbs
from sysenv_ns.console import asked, progress, show_failure
from sysenv_ns.environment import rootstore, transaction
from sysenv_ns.environment.directory import store_location
from sysenv_ns.errors import EXIT_FAILURE, EXIT_INTERRUPTED, NeedsRoot, SysenvError
from sysenv_ns.failures import EXIT_BEFORE_COMMAND
from sysenv_ns.notices import QUIET, can_ask, hint, notice, operation
from sysenv_ns.reporter import Reporter
from sysenv_ns.text import line
from sysenv_ns.verbs.context import AS_JSON, FAILURE_STATUS, Context

_YOUNG_OBJECTS = 100_000  # Python's 700 have a result of 50,000 rows gone through some hundred times, for nothing
_ARGUMENTS = f"{__name__}.arguments"  # in click's notes to a call: the command and its arguments


class _Commands(click.Group):
    """Turns every error into its message and exit status; no traceback reaches a user."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(verbs.NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return verbs.load(cmd_name) if cmd_name in verbs.NAMES else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs in sections, as so many are too long a list."""
        width = formatter.width - 6 - max(map(len, verbs.NAMES))
        for title, names in verbs.SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, verbs.load(name).get_short_help_str(width)) for name in names])

    def make_context(self, *arguments: Any, **keywords: Any) -> click.Context:
        with _last_resort(lambda: None):
            return super().make_context(*arguments, **keywords)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Note what follows the group's own options: sudo may have to be given it. Aliases become the verb's name."""
        ctx.meta[_ARGUMENTS] = tuple(args)
        name, *others = args
        name = verbs.ALIASES.get(name, name)
        if name not in verbs.NAMES and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}.{_suggestion(name)}")  # click suggests since its version 8.4 only
        return super().resolve_command(ctx, [name, *others])

    def invoke(self, ctx: click.Context) -> Any:
        failure: SysenvError | OSError
        with _last_resort(lambda: ctx.obj):
            try:
                return self._invoke_or_rerun(ctx)
            except BrokenPipeError:  # click ends quietly
                raise
            except (SysenvError, OSError) as error:
                failure = error
            except (KeyboardInterrupt, click.Abort):
                failure = SysenvError("interrupted", exit_status=EXIT_INTERRUPTED)
            before_command = ctx.invoked_subcommand in ("exec", "shell")
            default = EXIT_BEFORE_COMMAND if before_command else ctx.meta.get(FAILURE_STATUS, EXIT_FAILURE)
            if AS_JSON in ctx.meta:
                failure = failures.described(failure)
                status = default if failure.exit_status is None else failure.exit_status
                show_failure(failure.message, failure.hint, status)
                return ctx.exit(status)
            return ctx.exit(failures.tell(failure, default))

    def _invoke_or_rerun(self, ctx: click.Context) -> Any:
        """Where only root can do it, sudo is used; never silently."""
        try:
            return super().invoke(ctx)
        except NeedsRoot as need:
            if not sudo.available() or os.geteuid() == 0:
                raise
            notice(f"{need.message}: continuing with sudo")
            if need.remedy:
                hint(f"to avoid this: {need.remedy}")
            options = [f"--{name}" for name in ("verbose", "quiet") if ctx.params[name]]
            store = ctx.obj.store
            store.prepare()
            request = transaction.trash_path(store.trash, "request")
            sudo.rerun(store.path, request, [*options, *(need.arguments or ctx.meta[_ARGUMENTS])])


def _suggestion(name: str) -> str:
    from sysenv_ns import similar

    known = similar.like(name, [*verbs.NAMES, *verbs.ALIASES])
    return f" Did you mean {' or '.join(known[:3])}?" if known else ""


@contextlib.contextmanager
def _last_resort(context: Callable[[], Context | None]) -> Iterator[None]:
    """What nobody has foreseen ends in one sentence, and a report beside it; what click tells is made harmless."""
    outside = failures.root()
    try:
        yield
    except click.ClickException as error:
        error.message = line(error.message)  # type: ignore[misc]  # what it quotes are arguments
        raise
    except (click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise
    except Exception as error:
        known = context()
        store, caller = (known.store.path, known.caller) if known else (None, None)
        raise click.exceptions.Exit(failures.tell_unexpected(error, outside, store, caller)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sysenv-ns", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Print every mount operation as it is done.")
@click.option("-q", "--quiet", is_flag=True, help="Print results, questions and errors only.")
@click.option("--request", hidden=True, type=click.Path(path_type=Path), help="What sysenv-ns gives to sudo.")
@click.pass_context
def main(context: click.Context, verbose: bool, quiet: bool, request: Path | None) -> None:
    """A virtualenv for system packages, without root.

    Inside an environment everything is as on this machine, but what is written to system directories stays in the
    environment.
    """
    gc.set_threshold(_YOUNG_OBJECTS)
    if quiet:
        os.environ[QUIET] = "1"
    tell = operation if verbose else lambda message: None
    caller = sudo.receive(request) if request else None
    store = rootstore.of_user() if caller is None else rootstore.of_caller(caller, store_location())
    reporter = Reporter(notice, tell, lambda: progress("Reading the host"), asked if can_ask() else None)
    context.obj = Context(store, reporter, caller)
