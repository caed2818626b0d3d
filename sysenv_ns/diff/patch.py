"""PURE: the text difference of a file, in the format that patch -p1 reads; reads no file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from sysenv_ns.diff import changes
from sysenv_ns.diff.changes import Change
from sysenv_ns.records import dataclass
from sysenv_ns.text import harmless

_NO_NEWLINE = "\\ No newline at end of file\n"
_CONTEXT = 3


@dataclass(frozen=True)
class ContentPair:
    """The contents of a changed path on both sides, with bytes that are not UTF-8 as surrogates; None for nothing."""

    change: Change
    old: str | None
    new: str | None
    binary: bool  # on one side at least


def lines(contents: ContentPair, name: str) -> Iterator[str]:
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
    """Lines for changes that unified differences cannot express."""
    old, new = change.old, change.new
    path = quoted(change.path)
    if old is None and new is not None:
        yield f"{path}: new {new.type}, mode {new.mode:04o}\n"
    elif new is None and old is not None:
        yield f"{path}: deleted {old.type}\n"
    elif old is not None and new is not None:
        yield f"{path}: {', '.join(changes.details(change)) or 'modified'}\n"


def _split(text: str | None) -> list[str]:
    """The lines of a text; str.splitlines splits at more characters than patch(1)."""
    found = [f"{line}\n" for line in (text or "").split("\n")]
    last = found.pop()[:-1]
    return [*found, last] if last else found


def _unified(old: list[str], new: list[str], old_name: str, new_name: str) -> Iterator[str]:
    for line in difflib.unified_diff(old, new, old_name, new_name, n=_CONTEXT):
        yield line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}"


def quoted(path: str) -> str:
    """A path in lists of changes as in the patch itself: as git writes it and patch(1) reads it, C-style in quotes.

    For all other purposes there is text.quoted, with other escapes.
    """
    if harmless(path) and '"' not in path:
        return path
    return '"' + "".join(map(_escaped, path)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if harmless(letter):
        return letter
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    kept = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"  # one alone can be in JSON
    octal = (f"\\{byte:03o}" for byte in letter.encode("utf-8", kept))
    return named.get(letter) or "".join(octal)
