"""The command export with --format oci: call, render. archive.py has the command."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sysenv_ns.commands.console import Context, notice, progress, show
from sysenv_ns.packages import origin

if TYPE_CHECKING:
    from sysenv_ns.oci.image import Image


def export(context: Context, name: str, file: str, force: bool, as_json: bool) -> None:
    """Write the whole root of an environment, this system with its changes, as an OCI image archive."""
    from sysenv_ns import render
    from sysenv_ns.archive import output
    from sysenv_ns.oci import image
    from sysenv_ns.packages import drift

    if file == "-":  # what is only known at the end stands at the beginning
        raise click.UsageError("An image cannot be written to the standard output.")
    environment = context.store.load(name)
    if origin.may_be_drifted(environment) and (line := drift.notice(context.store, environment)):
        notice(line)
    owner = (context.caller.uid, context.caller.gid) if context.caller is not None else None
    with output.file(Path(file), force, owner) as stream:
        made = image.write(
            *(context.store, name, stream, os.environ.get("SHELL", ""), context.reporter),
            lambda: progress("Writing the image"),
        )
    if as_json:
        show(render.as_json(asdict(made)))
    else:
        _tell(context, name, file, made)


def _tell(context: Context, name: str, file: str, made: Image) -> None:
    for path in made.withheld:
        context.reporter.operation(f"not everybody may read it here, so it is empty there: {path}")
    if made.withheld:
        notice(f"{len(made.withheld)} files and directories that not everybody may read here are empty (-v lists them)")
    for path in made.left_out:
        notice(f"left out, as no image can hold this name: {path}")
    for path in made.revealed:
        notice(f"not everybody may read it here, but it is in the image, as {name} has changed it: {path}")
    notice(f"{file} holds all that everybody may read in this machine's /etc: look before you give it away")
    notice(f"load it with: podman load -i {file}; run it with: podman run --rm -it {made.image}")
