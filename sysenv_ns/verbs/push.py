"""push: sends an environment to a registry, for pull."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from sysenv_ns import units
from sysenv_ns.console import progress, show_json
from sysenv_ns.notices import notice
from sysenv_ns.oci.image import ImageWish
from sysenv_ns.registry import reference, skopeo
from sysenv_ns.registry.image_push import ImagePush
from sysenv_ns.registry.push import EnvironmentPush
from sysenv_ns.text import count, size
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command(
    "push",
    epilog=examples(
        "sysenv-ns push proj registry.example.org/team/proj:1",
        "sysenv-ns push --image proj example.org/proj-image:1  # for podman",
    ),
)
@NAME
@click.argument("where", metavar="REGISTRY/REPOSITORY[:TAG]")
@click.option("--image", "as_image", is_flag=True, help="Send all of its root, as an image for podman and docker.")
@click.option("--squash", is_flag=True, help="Of an image: one layer, without what the environment has removed.")
@click.option("--force", is_flag=True, help="Replace what somebody else has pushed there.")
@JSON
@click.pass_obj
def command(context: Context, name: str, where: str, as_image: bool, squash: bool, force: bool, as_json: bool) -> None:
    """Send an environment to a registry, for pull on other machines.

    It sends what export writes: its changes and its snapshots. The changes are frozen first, as by a snapshot, and what
    the registry already has is not sent again. It needs skopeo, which has your credentials (skopeo login REGISTRY).

    With --image it sends what export --format oci writes, in layers: those of this machine once for all environments.
    """
    refuse_inside("push an environment")
    target = reference.parse(where)
    if target.digest is not None:
        raise click.UsageError("A digest names what is there already; push to a tag.")
    if squash and not as_image:
        raise click.UsageError("--squash is about images: add --image.")
    program = skopeo.find(context.caller)
    store, reporter, bar = context.store, context.reporter, lambda: progress(f"Reading {name}")
    with units.paused(store, name, reporter):
        if as_image:
            wish = ImageWish(os.environ.get("SHELL", ""), squash)
            result = ImagePush(store, name, target, program, reporter, bar, wish).run(force)
        else:
            result = EnvironmentPush(store, name, target, program, reporter, bar).run(force)
    for note in result.notes:
        notice(note)
    if as_json:
        show_json(asdict(result))
    sent = f"sent {count(result.blobs, 'blob')} of {size(result.sent)}" if result.blobs else "nothing had to be sent"
    notice(f"pushed {name} to {target} ({size(result.size)}, {sent})")
    notice(f"even if the tag moves, this stays {target.registry}/{target.repository}@{result.digest}")
