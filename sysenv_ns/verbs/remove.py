"""remove: deletes environments, and bases that are no longer needed."""

from __future__ import annotations

import os

import click

from sysenv_ns import lifecycle
from sysenv_ns.console import asked, can_ask, confirmed, show_json
from sysenv_ns.errors import SysenvError
from sysenv_ns.mapped import client
from sysenv_ns.notices import notice
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples


@click.command(
    "remove",
    epilog=examples(
        "sysenv-ns remove proj",
        "sysenv-ns remove --base  # bases that no environment needs",
        "sysenv-ns remove --all  # before the tool is uninstalled",
    ),
)
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--base", "with_base", is_flag=True, help="Also delete bases that no environment needs any more.")
@click.option("--all", "everything", is_flag=True, help="Delete all environments and bases, before uninstalling.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal only --all needs it.")
@JSON
@click.pass_obj
def command(
    context: Context, names: tuple[str, ...], with_base: bool, everything: bool, yes: bool, as_json: bool
) -> None:
    """Delete environments and everything in them. On a terminal it asks first.

    Files that their root left in your home stay there: sysenv-ns reclaim PATH makes them yours.
    """
    if names and everything:
        raise click.UsageError("--all is for all environments: leave the names out.")
    if not names and not with_base and not everything:
        raise click.UsageError("Missing argument 'NAME...'.")
    refuse_inside("remove an environment")
    for name in names:
        context.store.directory(name)  # who is asked shall not be told afterwards that there is none
    agreed = yes or context.caller is not None  # root deletes the part that it was left
    if everything:
        names, with_base = tuple(context.store.all_names()), True
        agreed = confirmed(f"Delete {', '.join(names) or 'no environment'}, and all bases?", agreed)
    elif names and not agreed and can_ask():
        agreed = asked(f"Delete {', '.join(names)}, with everything in it?")
    else:
        agreed = True
    if not agreed:
        raise SysenvError("nothing was done", "answer yes, or give --yes")
    removed: list[str] = []

    def tell(name: str) -> None:
        removed.append(name)
        notice(f"removed {name}")

    need = lifecycle.remove_all(context.store, names, context.caller, tell)
    bases = _remove_bases(context) if with_base else {}
    if as_json:
        show_json({"removed": removed, "bases": bases})
    if everything and client.has_made(os.getuid()):
        notice("what root has made for you stays until `sysenv-ns host release`")
    if need is not None:
        raise need


def _remove_bases(context: Context) -> dict[str, int]:
    removed = lifecycle.remove_unused_bases(context.store)
    for base, size in removed.items():
        notice(f"removed the base {base} ({size / 1e6:.0f} MB)")
    if not removed:
        notice("there is no base to remove")
    return removed
