"""add: packages in the environment of this directory, and in its sysenv.toml; and what drop shares with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click

from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files import replacement
from sysenv_ns.manifest import parser
from sysenv_ns.notices import notice
from sysenv_ns.verbs import sync
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.create import New
from sysenv_ns.verbs.options import JSON, examples

YES = click.option("--yes", is_flag=True, help="Do not ask, whatever else in the file differs from the environment.")


@click.command(
    "add",
    epilog=examples("sysenv-ns add ripgrep fd-find", "sysenv-ns add gcc-12=12.2.0-14  # exactly this version"),
)
@click.argument("packages", metavar="PACKAGE...", nargs=-1, required=True)
@YES
@JSON
@click.pass_obj
def command(context: Context, packages: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Install packages in this directory's environment and file.

    The file is the sysenv.toml that sync takes; its comments and its order stay. PACKAGE is a name, or NAME=VERSION. If
    one cannot be installed, neither the environment nor the file is changed.
    """
    from sysenv_ns.manifest import edit  # it imports tomlkit, which nothing else needs

    change(context, lambda text: edit.with_packages(text, packages), packages, yes, as_json)
    notice(f"added {', '.join(packages)}")


def change(context: Context, edited: Callable[[str], str], packages: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Edit the sysenv.toml of this directory, and let the environment match it; if that fails, put the old text back.

    It asks only where more differs than these packages. Raises SysenvError.
    """
    refuse_inside("change an environment")
    file = sync.nearest(context)
    with context.store.as_user():
        before = parser.read(file)
        parser.parse(before, str(file))
        after = edited(before.decode()).encode()
        parser.parse(after, str(file))
    _write(context, file, after)
    try:
        sync.run(context, None, file, New(None, None), yes=yes, as_json=as_json, expected=packages)
    except BaseException:
        _write(context, file, before)
        raise


def _write(context: Context, file: Path, content: bytes) -> None:
    """A link stays, and what it leads to is replaced, with its mode."""
    path = Path(os.path.realpath(file))
    try:
        with context.store.as_user():
            replacement.replace_hidden(path, content, path.stat().st_mode & 0o777)
    except OSError as error:
        raise SysenvError(f"{file} cannot be written: {located(error)}", "make its directory writable") from error
