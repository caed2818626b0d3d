"""The command export, as far as it makes images: parse, call, render."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sysenv_ns.commands.console import JSON, NAME, Context, notice, refuse_inside, show
from sysenv_ns.lower.upkeep import Progress
from sysenv_ns.packages import origin

if TYPE_CHECKING:
    from sysenv_ns.oci.image import Image


@click.command()
@NAME
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["oci"]), required=True, help="oci: an image for podman or docker.")
@click.option("--force", is_flag=True, help="Replace FILE when it exists.")
@JSON
@click.pass_obj
def export(context: Context, name: str, file: Path, form: str, force: bool, as_json: bool) -> None:
    """Write the whole root of an environment, this system with its changes, as an OCI image archive.

    podman and docker load and run it. It holds what everybody may read on this machine and what is the environment's;
    no homes, and nothing that is mounted.
    """
    refuse_inside("export an environment")
    from sysenv_ns import render
    from sysenv_ns.oci import image, output
    from sysenv_ns.packages import drift

    environment = context.store.load(name)
    if origin.may_be_drifted(environment) and (line := drift.notice(context.store, environment)):
        notice(line)
    owner = (context.caller.uid, context.caller.gid) if context.caller is not None else None
    with output.file(file, force, owner) as stream:
        made = image.write(context.store, name, stream, os.environ.get("SHELL", ""), context.reporter, _progress)
    if as_json:
        show(render.as_json(asdict(made)))
    else:
        _tell(context, name, file, made)


def _tell(context: Context, name: str, file: Path, made: Image) -> None:
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


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal, nothing otherwise."""
    steps = 1000
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda fraction: None
        return
    with click.progressbar(length=steps, label="Writing the image", file=sys.stderr) as bar:
        yield lambda fraction: bar.update(max(0, int(fraction * steps) - bar.pos))


COMMANDS = (export,)
