"""reclaim: gives the user files that root of an environment has left in the user's directories."""

from __future__ import annotations

import os

import click

from sysenv_ns import root_files
from sysenv_ns.console import show_json
from sysenv_ns.notices import notice
from sysenv_ns.text import count, quoted
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples


@click.command("reclaim", epilog=examples("sysenv-ns reclaim ~/src/project", "sysenv-ns reclaim ."))
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@JSON
@click.pass_obj
def command(context: Context, paths: tuple[str, ...], as_json: bool) -> None:
    """Take ownership of files that an environment left behind.

    These are files in your directories that belong to its root or to its other users.

    exec does this itself for the directory it runs in. This is for other files, left by sudo in a shell or by a
    daemon. Stores of containers and of environments are skipped.
    """
    refuse_inside("reclaim files")
    places = [os.path.abspath(path) for path in paths]
    done = root_files.reclaim(context.store.named, places)
    if as_json:
        show_json({"paths": places, "files": done})
    notice(f"made {count(done, 'file')} yours" if done else f"nothing to reclaim in {', '.join(map(quoted, places))}")
