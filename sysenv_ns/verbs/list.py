"""list: all environments, a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from sysenv_ns import remains, status
from sysenv_ns.console import show_json, show_lines
from sysenv_ns.environment import running
from sysenv_ns.notices import notice
from sysenv_ns.status import Status
from sysenv_ns.text import date, size, table
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples
from sysenv_ns.verbs.status import as_data, state


@click.command("list", epilog=examples("sysenv-ns list", "sysenv-ns list --size  # with the room on the disk"))
@click.option("--size", "with_size", is_flag=True, help="Also show the disk space, including snapshots.")
@JSON
@click.pass_obj
def command(context: Context, with_size: bool, as_json: bool) -> None:
    """List all environments.

    --size counts files that clones share for each of them; "-" means that you have no permission to look.
    """
    if with_size:
        refuse_inside("measure environments")
    if not running.inside():
        remains.remove(context.store)
    statuses = status.all_of(context.store)
    sizes = _sizes(context, statuses) if with_size else {}
    if as_json:
        measured = ({"size": sizes[found.name]} if with_size else {} for found in statuses)
        show_json({"environments": [as_data(s) | more for s, more in zip(statuses, measured, strict=True)]})
    elif statuses:
        shown = text(statuses, sizes if with_size else None).splitlines()
        show_lines(zip(shown, ["bold", *map(_colour, statuses)], strict=True), context.caller)
    else:
        notice("there are no environments; create one with: sysenv-ns shell NAME")


def _sizes(context: Context, statuses: Sequence[Status]) -> dict[str, int | None]:
    from sysenv_ns.environment import history  # not for a list without

    return {found.name: history.whole_size(context.store, found.name) for found in statuses}


def text(statuses: Sequence[Status], sizes: Mapping[str, int | None] | None = None) -> str:
    """A table."""
    rows = [("NAME", "STATE", "DRIVER", "IDS", "CREATED")]
    rows += [(s.name, _marked(s), s.driver or "-", s.id_map or "-", date(s.created)) for s in statuses]
    if sizes is None:
        return table(rows)
    found = (sizes[s.name] for s in statuses)
    column = ["SIZE", *("-" if number is None else size(number) for number in found)]
    return table((*row, cell) for row, cell in zip(rows, column, strict=True))


def _colour(found: Status) -> str:
    if found.problem:
        return "red"
    if found.drift is not None and found.drift.is_there:
        return "yellow"
    return "green" if found.running else ""


def _marked(found: Status) -> str:
    drifted = found.drift is not None and found.drift.is_there
    return f"{state(found)}, drifted" if drifted else state(found)
