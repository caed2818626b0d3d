"""PURE: environments in lines, as `list` and `status` show them."""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.text import date, size, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sysenv_ns.status import Status

NONE = "there are no environments; create one with: sysenv-ns shell NAME"


def text(statuses: Sequence[Status], sizes: Mapping[str, int | None] | None = None) -> str:
    """A table."""
    rows = [("NAME", "STATE", "DRIVER", "IDS", "CREATED")]
    rows += [(s.name, _marked(s), s.driver or "-", s.id_map or "-", date(s.created)) for s in statuses]
    if sizes is None:
        return table(rows)
    return table(with_sizes(rows, [sizes[s.name] for s in statuses]))


def with_sizes(rows: Sequence[tuple[str, ...]], sizes: Sequence[int | None]) -> Iterator[tuple[str, ...]]:
    """The rows of a table, the first of which is the head, with one more column."""
    column = ["SIZE", *("-" if number is None else size(number) for number in sizes)]
    return ((*row, cell) for row, cell in zip(rows, column, strict=True))


def _marked(found: Status) -> str:
    return f"{state(found)}, drifted" if found.has_drifted else state(found)


def state(result: Status) -> str:
    """Whether it runs, in a few words."""
    if result.problem:
        return "damaged"
    if result.unseen:
        return "unknown"
    running = f"running ({len(result.processes)})" if result.running else "stopped"
    return f"{running}, you are in it" if result.here else running
