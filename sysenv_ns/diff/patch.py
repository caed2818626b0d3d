"""PURE: the text difference of a file, in the form that patch(1) takes with -p1; reads no file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from sysenv_ns.diff import changes
from sysenv_ns.diff.changes import Change

_NO_NEWLINE = "\\ No newline at end of file\n"
_CONTEXT = 3


@dataclass(frozen=True)
class Contents:
    """What a changed path holds on both sides, in which bytes that are no UTF-8 are surrogates; None for nothing."""

    change: Change
    old: str | None
    new: str | None
    binary: bool  # on one side at least


def lines(contents: Contents, name: str) -> Iterator[str]:
    """The lines for one path, each with its newline; `name` is the environment's."""
    change = contents.change
    yield from _heading(change)
    here, there = (quoted(f"{side}{change.path}") for side in ("host", name))
    if contents.binary:
        yield f"Binary files {here} and {there} differ\n"
        return
    yield from _unified(
        _split(contents.old),
        _split(contents.new),
        "/dev/null" if contents.old is None else here,
        "/dev/null" if contents.new is None else there,
    )


def _heading(change: Change) -> Iterator[str]:
    """What unified differences have no form for."""
    old, new = change.old, change.new
    path = quoted(change.path)
    if old is None and new is not None:
        yield f"{path}: new {new.type}, mode {new.mode:04o}\n"
    elif new is None and old is not None:
        yield f"{path}: deleted {old.type}\n"
    elif old is not None and new is not None:
        yield f"{path}: {', '.join(changes.details(change)) or 'modified'}\n"


def _split(text: str | None) -> list[str]:
    """The lines of a text; str.splitlines knows more ends of lines than patch(1)."""
    found = [f"{line}\n" for line in (text or "").split("\n")]
    last = found.pop()[:-1]
    return [*found, last] if last else found


def _unified(old: list[str], new: list[str], old_name: str, new_name: str) -> Iterator[str]:
    for line in difflib.unified_diff(old, new, old_name, new_name, n=_CONTEXT):
        yield line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}"


def quoted(path: str) -> str:
    """A name that stays on its line and does nothing to a terminal: as git and patch(1) write it, C-style in quotes."""
    if path.isprintable() and '"' not in path:
        return path
    return '"' + "".join(map(_escaped, path)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    octal = (f"\\{byte:03o}" for byte in letter.encode("utf-8", "surrogateescape"))
    return named.get(letter) or "".join(octal)


def visible(line: str) -> str:
    """A line of a file as a terminal may have it: what would move the cursor or worse is shown, not done."""
    return "".join(letter if letter.isprintable() or letter in "\t\n" else _shown(letter) for letter in line)


def _shown(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))
