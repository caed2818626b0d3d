"""What sync has found, to text (which does nothing to a terminal) or JSON; fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sysenv_ns.diff import patch
from sysenv_ns.manifest.document import File
from sysenv_ns.manifest.plans import Action
from sysenv_ns.manifest.syncing import Result
from sysenv_ns.render import table

_SIGNS = {
    "architecture": ("+", "architecture"),
    "no-architecture": ("-", "architecture"),
    "repository": ("~", "repository"),
    "key": ("~", "key"),
    "answer": ("~", "answer"),
    "install": ("+", "package"),
    "remove": ("-", "package"),
    "drop": ("-", "package"),
    "hold": ("+", "hold"),
    "unhold": ("-", "hold"),
    "file": ("~", "file"),
    "script": (">", "script"),
}
_WHYS = {"drop": "and what nothing else needs"}


def as_data(result: Result) -> dict[str, Any]:
    """All of it for --json."""
    return {
        "name": result.name,
        "file": result.file,
        "matches": not result.actions,
        "created": result.created,
        "done": result.done,
        "actions": [{"kind": action.kind, "subject": action.subject} for action in result.actions],
        "notes": list(result.notes),
        "origin": result.origin,
    }


def plan(result: Result) -> str:
    """What is to be done, with all that scripts and repositories say."""
    if not result.actions:
        return f"{result.name} matches {patch.quoted(result.file)}"
    what = "is made" if result.created else "differs"
    rows = [_row(action) for action in result.actions]
    lines = [f"{result.name} {what}, by {patch.quoted(result.file)}:"]
    if not result.created and result.origin != result.file:
        lines.append(f"  it was made from {patch.quoted(result.origin) if result.origin else 'no such file'}")
    for action, line in zip(result.actions, table(rows).splitlines(), strict=True):
        lines.append(f"  {line}")
        lines += [f"      | {patch.visible(text)}" for text in _details(action)]
    return "\n".join(lines)


def _row(action: Action) -> tuple[str, ...]:
    sign, what = _SIGNS[action.kind]
    nothing = action.kind in ("repository", "key", "file") and action.value is None
    return ("-" if nothing else sign, what, patch.visible(action.subject), _WHYS.get(action.kind, ""))


def _details(action: Action) -> Iterator[str]:
    if action.kind in ("script", "repository", "answer") and isinstance(action.value, bytes):
        yield from action.value.decode("utf-8", "replace").rstrip("\n").split("\n")
    if isinstance(action.value, File) and action.value.link is not None:
        yield f"-> {action.value.link}"
