"""What the modules of the command line have in common: what commands are given, options, and how they speak."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from sysenv_ns import policy
from sysenv_ns.errors import SysenvError
from sysenv_ns.session import Reporter
from sysenv_ns.store import Store
from sysenv_ns.sudo import Caller

NAME = click.argument("name")
DRIVER = click.option(
    "--driver",
    type=click.Choice(["auto", *policy.DRIVERS]),
    help="How files of the host get into the environment (see doctor).",
)
ID_MAP = click.option(
    "--id-map",
    type=click.Choice(["auto", "full", "single"]),
    help="full: you stay you, with all system ids beside; single: you are root and nobody else exists.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


@dataclass(frozen=True)
class Context:
    """What every command is given."""

    store: Store
    reporter: Reporter
    caller: Caller | None


def notice(text: str) -> None:
    """What the user should know, to stderr."""
    click.echo(f"sysenv-ns: {text}", err=True)


def show(text: str) -> None:
    """A result, to stdout; a path that is no text is printed as the bytes that it is."""
    click.echo(os.fsencode(text))


def confirmed(question: str, yes: bool) -> bool:
    """Whether the user wants what was shown: by an option, or asked on the terminal. Raises SysenvError."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise SysenvError("nobody can be asked whether this shall be done", "look at what it is, then give --yes")
    return click.confirm(question, default=False, err=True)


def show_plan(text: str) -> None:
    """What is asked about, to where it is asked."""
    click.echo(os.fsencode(text), err=True)


def refuse_inside(what: str) -> None:
    """Overlays do not nest here: the root of an environment cannot be the base of another one."""
    from sysenv_ns import running

    name = os.environ.get("SYSENV_NS")
    if name or running.inside():
        raise SysenvError(f"cannot {what} from inside the environment {name or '(unknown)'}", "leave it first")


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[float], None]]:
    """What to tell the part that is done, from 0 to 1: a bar on a terminal, nothing otherwise."""
    steps = 1000
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda fraction: None
        return
    with click.progressbar(length=steps, label=label, file=sys.stderr) as bar:

        def report(fraction: float) -> None:
            bar.update(max(0, int(fraction * steps) - bar.pos))

        yield report
