"""shell: the user's shell in an environment; without a name, in that of this directory."""

from __future__ import annotations

import click

from sysenv_ns.command import Asked, Command
from sysenv_ns.verbs import entry
from sysenv_ns.verbs.context import Context
from sysenv_ns.verbs.create import New
from sysenv_ns.verbs.options import CREATE, DRIVER, ID_MAP, INIT, examples


@click.command(
    "shell",
    epilog=examples(
        "sysenv-ns shell proj  # your shell, as you",
        "sysenv-ns shell --root proj",
        "sysenv-ns shell  # that of this directory's sysenv.toml",
        "sysenv-ns shell --ephemeral proj  # gone with its last process",
    ),
)
@entry.ROOT
@entry.ME
@DRIVER
@ID_MAP
@INIT
@CREATE
@entry.EPHEMERAL
@entry.ON_DISK
@click.argument("name", required=False)
@click.pass_obj
def command(
    context: Context,
    name: str | None,
    identity: Asked | None,
    driver: str | None,
    id_map: str | None,
    init: bool | None,
    sure: bool,
    throwaway: bool,
    on_disk: bool,
) -> None:
    """Start a shell in an environment. It is created if it does not exist.

    Without NAME it uses the environment of the sysenv.toml in this directory, or in the nearest one above (see sync),
    else the `default` of your config.toml.
    """
    new = New(driver, id_map, entry.place(throwaway, on_disk, init), sure, init)
    if name is None and not throwaway:
        from sysenv_ns.verbs import sync

        name = sync.environment_here(context, new)
    entry.enter(context, name, Command(None, identity, context.caller), new)
