"""What diff has found to text or JSON; fetches nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sysenv_ns.diff import changes, patch
from sysenv_ns.diff.changes import Change, Facts, PackageChange
from sysenv_ns.diff.difference import Difference
from sysenv_ns.diff.patch import Contents, quoted
from sysenv_ns.kernel.mountinfo import ancestors
from sysenv_ns.render import size, table

# A style of click's by what a line is about.
_COLOURS = {"added": "green", "deleted": "red", "removed": "red", "modified": "yellow", "type": "yellow"}
_LINE_COLOURS = {"-": "red", "+": "green", "@": "cyan"}
_TITLES = {"type": "type changed"}
_FOLDED = {"cache": "caches", "log": "logs", "database": "package databases"}

Paint = Callable[[str, str], str]  # a text and a colour, or ""
_Row = tuple[str, ...]


def as_data(difference: Difference) -> dict[str, Any]:
    """All of it for --json."""
    return {
        "name": difference.name,
        "packages": [asdict(package) for package in difference.packages],
        "changes": [_change_data(change) for change in difference.changes],
        "notes": list(difference.notes),
    }


def _change_data(change: Change) -> dict[str, Any]:
    sides = {"old": _facts_data(change.old), "new": _facts_data(change.new)}
    rest = {"metadata": list(change.metadata), "package": change.package, "fold": change.fold}
    return {"path": change.path, "kind": change.kind, **sides, **rest}


def _facts_data(facts: Facts | None) -> dict[str, Any] | None:
    return None if facts is None else {**facts._asdict(), "mode": f"{facts.mode:04o}"}


def packages(difference: Difference, paint: Paint) -> str:
    """The packages with versions, and how much of what is changed is theirs."""
    owned: dict[str, list[Change]] = {}
    for change in difference.changes:
        if not change.fold:
            owned.setdefault(change.package, []).append(change)
    rows = [(p.kind, p.name, _versions(p), *_amount(owned.get(p.name, ()))) for p in difference.packages]
    return _painted(rows, paint)


def _versions(package: PackageChange) -> str:
    return " -> ".join(version for version in (package.old, package.new) if version)


def files(difference: Difference, everything: bool, paint: Paint) -> str:
    """Every path."""
    shown = [change for change in difference.changes if everything or not change.fold]
    rows = [(*_row(change), f"({change.package})" if change.package else "") for change in shown]
    return _joined(_painted(rows, paint), "" if everything else _folded(difference.changes))


def summary(difference: Difference, everything: bool, paint: Paint) -> str:
    """By package; what belongs to a package that is another one, in one line for all its files."""
    versions = {package.name for package in difference.packages}
    left = [c for c in difference.changes if c.package not in versions and (everything or not c.fold)]
    groups: dict[str, list[Change]] = {}
    for change in left:
        groups.setdefault(change.package, []).append(change)
    others = groups.pop("", [])
    parts = [_titled("Packages", packages(difference, paint), paint)]
    for name, owned in sorted(groups.items()):
        parts.append(_titled(f"Files of {name}", _painted([_row(change) for change in owned], paint), paint))
    parts.append(_titled("Files of no package", _painted(list(_collapsed(others)), paint), paint))
    return _joined("\n\n".join(part for part in parts if part), "" if everything else _folded(difference.changes), "\n")


def patches(contents: Iterable[Contents], name: str, paint: Paint, terminal: bool) -> str:
    """The text differences; for a terminal what is in the files is made harmless."""
    if not terminal:
        return "".join(line for found in contents for line in patch.lines(found, name))
    return "".join(line for found in contents for line in _harmless(patch.lines(found, name), paint))


def _harmless(lines: Iterable[str], paint: Paint) -> Iterator[str]:
    in_hunks = False  # before, a "---" is no line that is gone
    for line in lines:
        in_hunks = in_hunks or line.startswith("@@ ")
        colour = _LINE_COLOURS.get(line[0], "") if in_hunks else "bold"
        yield f"{paint(patch.visible(line[:-1]), colour)}\n"


def _row(change: Change) -> _Row:
    path = f"{change.path}/" if change.type == "directory" else change.path
    return change.kind, quoted(path), ", ".join(_described(change))


def _described(change: Change) -> Iterator[str]:
    if change.kind in ("added", "deleted", "modified"):
        if change.type == "file":
            yield " -> ".join(size(found.size) for found in (change.old, change.new) if found is not None)
        elif change.type != "directory":
            yield change.type
    yield from changes.details(change)


def _collapsed(found: Sequence[Change]) -> Iterator[_Row]:
    """A new directory in one line for all that is in it."""
    by_path = {change.path: change for change in found}
    inner: dict[str, list[Change]] = {}
    for change in found:
        above = [path for path in ancestors(change.path) if _is_new_directory(by_path.get(path))]
        inner.setdefault(above[-1] if above else change.path, []).append(change)
    for path, below in inner.items():
        kind, name, described = _row(by_path[path])
        yield kind, name, described or ", ".join(part for part in _amount(below) if part)


def _is_new_directory(change: Change | None) -> bool:
    return change is not None and change.kind == "added" and change.type == "directory"


def _amount(found: Iterable[Change]) -> tuple[str, str]:
    """How many files, and the bytes of those that are there."""
    inside = [change for change in found if change.type != "directory"]
    if not inside:
        return "", ""
    number = f"{len(inside)} {'file' if len(inside) == 1 else 'files'}"
    return number, size(sum(change.new.size for change in inside if change.new))


def _folded(found: Iterable[Change]) -> str:
    groups: dict[str, list[Change]] = {}
    for change in found:
        if change.fold and change.type != "directory":
            groups.setdefault(change.fold, []).append(change)
    parts = [f"{_FOLDED[name]} ({', '.join(_amount(groups[name]))})" for name in sorted(groups)]
    return f"not shown without --all: {', '.join(parts)}" if parts else ""


def _titled(title: str, text: str, paint: Paint) -> str:
    return f"{paint(title, 'bold')}\n{text}" if text else ""


def _joined(text: str, last: str, between: str = "") -> str:
    return f"\n{between}".join(part for part in (text, last) if part)


def _painted(rows: Sequence[_Row], paint: Paint) -> str:
    lines = table((_TITLES.get(kind, kind), *rest) for kind, *rest in rows).splitlines() if rows else []
    return "\n".join(paint(line, _COLOURS.get(row[0], "")) for line, row in zip(lines, rows, strict=True))
