"""drop: packages out of the environment of this directory, and out of its sysenv.toml."""

from __future__ import annotations

import click

from sysenv_ns.notices import notice
from sysenv_ns.verbs import add
from sysenv_ns.verbs.context import Context
from sysenv_ns.verbs.options import JSON, examples


@click.command("drop", epilog=examples("sysenv-ns drop ripgrep"))
@click.argument("packages", metavar="PACKAGE...", nargs=-1, required=True)
@add.YES
@JSON
@click.pass_obj
def command(context: Context, packages: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove packages from this directory's environment and file.

    It is the reverse of add; the file is the sysenv.toml that sync takes. What only they needed is removed too; what
    this system has stays.
    """
    from sysenv_ns.manifest import edit  # it imports tomlkit, which nothing else needs

    add.change(context, lambda text: edit.without_packages(text, packages), packages, yes, as_json)
    notice(f"dropped {', '.join(packages)}")
