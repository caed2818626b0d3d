"""PURE: the result of a rebase, or its plan, for people."""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.text import line, quoted, table

if TYPE_CHECKING:
    from sysenv_ns.rebase.rebase import PackageChoice, RebaseResult


def text(result: RebaseResult) -> str:
    """Packages, notes, and, if not yet done, each operation."""
    rows = [
        (quoted(choice.key), "the host's" if choice.side == "host" else "stays", choice.why, _versions(choice))
        for choice in result.packages
    ]
    lines = [table([("PACKAGE", "VERSION", "WHY", ""), *rows])] if rows else []
    lines += [f"note: {line(note)}" for note in result.notes]
    if not result.operations:
        lines.append("There is nothing to do.")
    if not result.done:
        lines += map(line, result.operations)
    return "\n".join(lines)


def _versions(choice: PackageChoice) -> str:
    old, new, own = map(quoted, (choice.old, choice.new, choice.own))
    here = f" (in the environment: {own})" if own not in (old, "") else ""
    return f"{new}{here}" if old == new else f"{old or '-'} -> {new or '-'}{here}"
