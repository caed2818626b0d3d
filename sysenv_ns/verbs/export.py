"""export: an environment as one file, for import, or with --format oci its whole root as an image."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sysenv_ns import units
from sysenv_ns.archive import export, output
from sysenv_ns.console import progress, show_json
from sysenv_ns.notices import notice
from sysenv_ns.packages import drift, origin
from sysenv_ns.text import size
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples

if TYPE_CHECKING:
    from sysenv_ns.oci.image import Image


@click.command(
    "export",
    epilog=examples(
        "sysenv-ns export proj proj.tar.zst",
        "sysenv-ns export proj - | ssh host sysenv-ns import -",
        "sysenv-ns export --format oci proj proj.tar  # for podman",
    ),
)
@NAME
@click.argument("file")
@click.option(
    "--format",
    "form",
    type=click.Choice(["environment", "oci"]),
    default="environment",
    help="environment: what it changed, for import; oci: all of its root, as an image for podman and docker.",
)
@click.option("--squash", is_flag=True, help="Of an image: one layer, without what the environment has removed.")
@click.option("--force", is_flag=True, help="Replace FILE.")
@JSON
@click.pass_obj
def command(context: Context, name: str, file: str, form: str, squash: bool, force: bool, as_json: bool) -> None:
    """Export an environment to a file. FILE is for import by others or on other machines; - is the standard output.

    It holds what the environment changed and its snapshots, whatever the driver and id map; the environment must not be
    running. An image holds this machine's world-readable files and those of the environment; no homes or mounts.
    """
    refuse_inside("export an environment")
    if as_json and file == "-":
        raise click.UsageError("--json and - both write to the standard output.")
    if form == "oci":
        _export_image(context, name, file, squash, force, as_json)
    elif squash:
        raise click.UsageError("--squash is about images: add --format oci.")
    else:
        _export(context, name, file, force, as_json)


def _export(context: Context, name: str, file: str, force: bool, as_json: bool) -> None:
    with units.paused(context.store, name, context.reporter):
        result = export.export(context.store, name, file, force, lambda: progress(f"Exporting {name}"))
    for note in result.notes:
        notice(note)
    if as_json:
        show_json(asdict(result))
    elif file != "-":
        notice(f"exported {name} to {file} ({size(result.size)})")


def _export_image(context: Context, name: str, file: str, squash: bool, force: bool, as_json: bool) -> None:
    from sysenv_ns.oci import image  # not for all: it takes as long to import as all the rest
    from sysenv_ns.oci.image import ImageWish

    if file == "-":  # what is only known at the end stands at the beginning
        raise click.UsageError("An image cannot be written to the standard output.")
    environment = context.store.load(name)
    environment.require_root()
    if origin.may_be_drifted(environment) and (line := drift.notice(context.store, environment)):
        notice(line)
    wish, bar = ImageWish(os.environ.get("SHELL", ""), squash), lambda: progress("Writing the image")
    paused = units.paused(context.store, name, context.reporter)
    with output.file(Path(file), force, context.store.as_user) as stream, paused:
        made = image.write(context.store, name, stream, wish, context.reporter, bar)
    if as_json:
        show_json(asdict(made))
    else:
        _tell(context, name, file, made)


def _tell(context: Context, name: str, file: str, made: Image) -> None:
    for path in made.withheld:
        context.reporter.operation(f"empty in the image, as it is not world-readable here: {path}")
    for note in made.notes(name):
        notice(note)
    notice(f"{file} holds all that is world-readable in this machine's /etc: check it before you share it")
    notice(f"load it with: podman load -i {file}; run it with: podman run --rm -it {made.image}")
