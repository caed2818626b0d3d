"""list: all environments, a line each."""

from __future__ import annotations

from collections.abc import Sequence

import click

from sysenv_ns import listing, remains, status
from sysenv_ns.console import show_json, show_lines
from sysenv_ns.environment import layers, running
from sysenv_ns.environment.removed import Removed
from sysenv_ns.notices import notice
from sysenv_ns.status import Status
from sysenv_ns.text import date, size, table, timestamp
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples
from sysenv_ns.verbs.status import as_data


@click.command(
    "list",
    epilog=examples(
        "sysenv-ns list",
        "sysenv-ns list --size  # with the room on the disk",
        "sysenv-ns list --removed  # what remove --undo can restore",
    ),
)
@click.option("--size", "with_size", is_flag=True, help="Also show the disk space, including snapshots.")
@click.option("--removed", is_flag=True, help="Instead, list the removed environments that can be restored.")
@JSON
@click.pass_obj
def command(context: Context, with_size: bool, removed: bool, as_json: bool) -> None:
    """List all environments.

    --size counts files that clones share for each of them; "-" means that you have no permission to look.
    """
    if with_size:
        refuse_inside("measure environments")
    if not running.inside():
        remains.remove(context.store)
    if removed:
        _show_removed(context, with_size, as_json)
        return
    statuses = status.all_of(context.store, is_whole=as_json)
    sizes = _sizes(context, statuses) if with_size else {}
    if as_json:
        measured = ({"size": sizes[found.name]} if with_size else {} for found in statuses)
        show_json({"environments": [as_data(s) | more for s, more in zip(statuses, measured, strict=True)]})
    elif statuses:
        shown = listing.text(statuses, sizes if with_size else None).splitlines()
        show_lines(zip(shown, ["bold", *map(_colour, statuses)], strict=True), context.caller)
    else:
        notice(listing.NONE)
    if with_size and not as_json and (kept := layers.size_of_removed(context.store)):
        notice(f"removed environments take {size(kept)}: sysenv-ns list --removed; sysenv-ns remove --purge frees it")


def _show_removed(context: Context, with_size: bool, as_json: bool) -> None:
    found = context.store.all_removed()
    sizes = [_size_of(context, one) for one in found] if with_size else None
    if as_json:
        measured = ({} if sizes is None else {"size": number} for number in sizes or found)
        show_json({"removed": [_as_data(one) | more for one, more in zip(found, measured, strict=True)]})
    elif found:
        title, *rows = text_of_removed(found, sizes).splitlines()
        show_lines([(title, "bold"), *((row, "") for row in rows)], context.caller)
    else:
        notice("there are no removed environments")


def _size_of(context: Context, found: Removed) -> int | None:
    from sysenv_ns.environment import history  # not for a list without

    part = next(part for part in context.store.parts() if part.removed == found.path.parent)
    return history.size_of_removed(part, found)


def _as_data(found: Removed) -> dict[str, object]:
    times = {"removed": timestamp(found.removed), "until": timestamp(found.until)}
    return {"name": found.name, **times, "path": str(found.path)}


def text_of_removed(found: Sequence[Removed], sizes: Sequence[int | None] | None) -> str:
    """A table, the one that was removed last at the end."""
    rows = [("NAME", "REMOVED", "KEPT UNTIL"), *((one.name, date(one.removed), date(one.until)) for one in found)]
    return table(rows if sizes is None else listing.with_sizes(rows, sizes))


def _sizes(context: Context, statuses: Sequence[Status]) -> dict[str, int | None]:
    from sysenv_ns.environment import history  # not for a list without

    return {found.name: history.whole_size(context.store, found.name) for found in statuses}


def _colour(found: Status) -> str:
    if found.problem:
        return "red"
    if found.has_drifted:
        return "yellow"
    return "green" if found.running else ""
