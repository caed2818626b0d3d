"""import: creates an environment from a file that export has written."""

from __future__ import annotations

import click

from sysenv_ns import status
from sysenv_ns.archive import import_
from sysenv_ns.console import progress, show_json
from sysenv_ns.notices import notice
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.create import New, chosen
from sysenv_ns.verbs.options import DRIVER, ID_MAP, JSON, examples
from sysenv_ns.verbs.status import as_data


@click.command(
    "import",
    epilog=examples("sysenv-ns import proj.tar.zst", "sysenv-ns import proj.tar.zst other  # under another name"),
)
@click.argument("file")
@click.argument("name", required=False)
@DRIVER
@ID_MAP
@click.option("--force", is_flag=True, help="Import even if it was made on another release.")
@JSON
@click.pass_obj
def command(
    context: Context, file: str, name: str | None, driver: str | None, id_map: str | None, force: bool, as_json: bool
) -> None:
    """Create an environment from an exported file. FILE may be - for the standard input.

    Without NAME it keeps its name. All of FILE is checked before anything is created.
    """
    refuse_inside("import an environment")
    wish = import_.Wish(file, name, *chosen(context, New(driver, id_map)), force)
    result = import_.import_(context.store, wish, context.reporter, lambda: progress("Importing"))
    for note in result.notes:
        notice(note)
    made = result.environment.name
    if as_json:
        show_json(as_data(status.of(context.store, made)))
    notice(f"imported {made}; enter it with: sysenv-ns shell {made}")
