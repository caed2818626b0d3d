"""The commands export and import: parse, call, render."""

from __future__ import annotations

from dataclasses import asdict

import click

from sysenv_ns.commands import oci
from sysenv_ns.commands.console import DRIVER, ID_MAP, JSON, NAME, Context, notice, progress, refuse_inside, show
from sysenv_ns.commands.making import New, chosen


@click.command()
@NAME
@click.argument("file")
@click.option(
    "--format",
    "form",
    type=click.Choice(["environment", "oci"]),
    default="environment",
    help="environment: what it changed, for import; oci: all of its root, as an image for podman and docker.",
)
@click.option("--force", is_flag=True, help="Replace FILE.")
@JSON
@click.pass_obj
def export(context: Context, name: str, file: str, form: str, force: bool, as_json: bool) -> None:
    """Write an environment to one file. FILE is for import by others or on another machine; - is the standard output.

    What it changed and its snapshots are in it, whatever the driver and id map; it must not be running. An image holds
    what everybody may read on this machine and what is the environment's; no homes, and nothing that is mounted.
    """
    refuse_inside("export an environment")
    if as_json and file == "-":
        raise click.UsageError("--json and - both write to the standard output.")
    if form == "oci":
        oci.export(context, name, file, force, as_json)
        return
    from sysenv_ns import render
    from sysenv_ns.archive import exporting

    result = exporting.export(context.store, name, file, force, lambda: progress(f"Exporting {name}"), context.caller)
    for note in result.notes:
        notice(note)
    if as_json:
        show(render.as_json(asdict(result)))
    elif file != "-":
        notice(f"exported {name} to {file} ({render.size(result.size)})")


@click.command(name="import")
@click.argument("file")
@click.argument("name", required=False)
@DRIVER
@ID_MAP
@click.option("--force", is_flag=True, help="Even if it is of another release of the system.")
@JSON
@click.pass_obj
def import_(
    context: Context, file: str, name: str | None, driver: str | None, id_map: str | None, force: bool, as_json: bool
) -> None:
    """Make an environment of what export has written. It is FILE, or - for the standard input.

    Without NAME it gets the name that it had. All of FILE is checked before anything is there.
    """
    refuse_inside("import an environment")
    from sysenv_ns import lifecycle, render
    from sysenv_ns.archive import importing

    wish = importing.Wish(file, name, *chosen(context, New(driver, id_map)), force)
    result = importing.import_(context.store, wish, context.reporter, lambda: progress("Importing"))
    for note in result.notes:
        notice(note)
    made = result.environment.name
    if as_json:
        show(render.as_json(render.status_json(lifecycle.status(context.store, made))))
    notice(f"imported {made}; enter it with: sysenv-ns shell {made}")


COMMANDS = (export, import_)
