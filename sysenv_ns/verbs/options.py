"""Arguments and options that several verbs have, and how the examples in --help are written."""

from __future__ import annotations

import click

from sysenv_ns import policy
from sysenv_ns.text import table
from sysenv_ns.verbs.context import AS_JSON

NAME = click.argument("name")
DRIVER = click.option(
    "--driver",
    type=click.Choice(["auto", *policy.DRIVERS]),
    help="How the environment gets the host's files (see doctor).",
)
ID_MAP = click.option(
    "--id-map",
    type=click.Choice(["auto", "full", "single"]),
    help="full: you keep your user id, and all system users exist; single: you are root, and no other user exists.",
)
INIT = click.option(
    "--init/--no-init",
    "init",
    default=None,
    help="With systemd as its process 1 (needs the full id map); --no-init enters one without it, to repair that.",
)
CREATE = click.option(
    "--create", "sure", is_flag=True, help="Create NAME without asking, even if another name is very similar."
)


def _note_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        context.meta[AS_JSON] = True
    return value


JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_note_json,
    help="Machine-readable output and errors.",
)


def examples(*lines: str) -> str:
    """The end of a verb's --help, and a part of its manual page: commands, what each does after "  # "."""
    rows = [(command, f"# {what}" if what else "") for command, _, what in (line.partition("  # ") for line in lines)]
    return "\n  ".join(["\b\nExamples:", *table(rows).splitlines()])
