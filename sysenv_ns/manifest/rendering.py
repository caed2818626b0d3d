"""What sync has found, to text (which does nothing to a terminal) or JSON; fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sysenv_ns.diff import patch
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.manifest.document import File
from sysenv_ns.manifest.plans import Action
from sysenv_ns.manifest.selecting import TEXT_LIMIT, is_text
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
    """What is to be done, with all that scripts, repositories, answers and files say, as far as that can be read."""
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
    why = _looks(action.value) if isinstance(action.value, File) else _WHYS.get(action.kind, "")
    return ("-" if nothing else sign, what, patch.visible(action.subject).replace("\n", "\\n"), why)


def _looks(file: File) -> str:
    """The owner and mode that are not the usual ones."""
    mode = f"mode {file.mode:04o}" if file.mode != File.mode else ""
    owner = f"owner {file.owner}" if file.owner != File.owner else ""
    return ", ".join(filter(None, (mode, owner)))


def _details(action: Action) -> Iterator[str]:
    if isinstance(action.value, File):
        yield from _content(action.subject, action.value)
    elif action.value is not None and action.kind in ("script", "repository", "answer"):
        yield from _lines(action.value)


def _content(path: str, file: File) -> Iterator[str]:
    """What a file holds. What is below /etc/apt decides what apt runs while it is synced."""
    if file.link is not None:
        yield f"-> {patch.quoted(file.link)}"
    elif is_below(path, "/etc/apt") or (len(file.content) <= TEXT_LIMIT and is_text(file.content)):
        yield from _lines(file.content)
    else:
        yield f"({len(file.content)} bytes{f' of {file.source}' if file.source else ''}, not shown)"


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
