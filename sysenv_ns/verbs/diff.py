"""diff: what an environment changed, by package and by path, and the text difference of its files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from json.encoder import encode_basestring_ascii
from typing import Any

import click

from sysenv_ns.console import Encoded, painted, show, show_data, show_json, show_paged, wants_colours
from sysenv_ns.diff import changes, difference, patch
from sysenv_ns.diff.changes import Change, Facts, FileType
from sysenv_ns.diff.difference import Difference
from sysenv_ns.diff.patch import ContentPair
from sysenv_ns.kernel.mountinfo import ancestors
from sysenv_ns.notices import notice, on_terminal
from sysenv_ns.records import asdict
from sysenv_ns.text import arrow, count, quoted, size, table, visible
from sysenv_ns.verbs.context import Context, one_means_different, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples

_DIFFERENT = 1

# A style of click's by what a line is about.
_COLOURS = {"added": "green", "deleted": "red", "removed": "red", "modified": "yellow", "type": "yellow"}
_LINE_COLOURS = {"-": "red", "+": "green", "@": "cyan"}
_TITLES = {"type": "type changed"}
_FOLDED = {"cache": "caches", "log": "logs", "database": "package databases"}

Paint = Callable[[str, str], str]  # a text and a colour, or ""
_Row = tuple[str, ...]


@click.command(
    "diff",
    epilog=examples(
        "sysenv-ns diff proj",
        "sysenv-ns diff --packages proj",
        "sysenv-ns diff proj -- /etc/ssh/ssh_config  # the text difference",
        "sysenv-ns diff proj -- /etc | patch -p1 --dry-run",
    ),
)
@NAME
@click.argument("paths", metavar="[-- PATH...]", nargs=-1)
@click.option("--packages", "only_packages", is_flag=True, help="Only packages, with their versions.")
@click.option("--files", "only_files", is_flag=True, help="Every path, not grouped by package.")
@click.option("--all", "everything", is_flag=True, help="Caches, logs and package databases too.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences, with 2 on failure.")
@JSON
@click.pass_obj
def command(
    context: Context,
    name: str,
    paths: tuple[str, ...],
    only_packages: bool,
    only_files: bool,
    everything: bool,
    exit_code: bool,
    as_json: bool,
) -> None:
    """Show what an environment changed. It is compared with this system as it is now, whether it runs or not.

    With a PATH: the text difference of that file, or of all that is changed below that directory. The exit status is
    0, whether there are differences or not.
    """
    if exit_code:
        one_means_different()
    refuse_inside("compare an environment")
    found = difference.find(context.store, name, [os.path.join(os.getcwd(), path) for path in paths])
    paint = painted if wants_colours(context.caller) else _plain
    if as_json:
        show_json(as_data(found))
    elif only_packages or only_files:
        parts = [
            packages(found, paint) if only_packages else "",
            files(found, everything, paint) if only_files else "",
        ]
        _show("\n".join(part for part in parts if part), context)
    elif not paths:
        _show(summary(found, everything, paint), context)
    elif on_terminal():
        contents = difference.contents(context.store, found)
        _show(patches(contents, name, paint).removesuffix("\n"), context)
    else:
        show_data(os.fsencode(patches(difference.contents(context.store, found), name)))
    if not as_json:
        for note in found.notes:
            notice(note)
        if not (found.changes or found.packages or found.notes):
            notice(f"no changes {'there' if paths else f'in {name}'}")
    if exit_code and (found.changes or found.packages):
        raise click.exceptions.Exit(_DIFFERENT)


def _show(result: str, context: Context) -> None:
    if result and on_terminal():
        show_paged(result, context.caller)
    elif result:
        show(result)


def _plain(result: str, colour: str) -> str:
    return visible(result)


def as_data(result: Difference) -> dict[str, Any]:
    """The result for --json."""
    return {
        "name": result.name,
        "packages": [asdict(package) for package in result.packages],
        "changes": Encoded(map(_encoded, result.changes)),
        "notes": list(result.notes),
    }


def _encoded(change: Change) -> str:
    """A change as JSON, put together: of 100,000s a mapping of mappings takes four times as long."""
    path, kind, old, new, metadata, package, fold = change
    return (
        f'{{"path": {encode_basestring_ascii(path)}, "kind": "{kind}", '
        f'"old": {_encoded_facts(old) if old else "null"}, "new": {_encoded_facts(new) if new else "null"}, '
        f"{_encoded_rest(metadata, package, fold)}"
    )


def _encoded_facts(facts: Facts) -> str:
    kind, mode, uid, gid, bytes_ = facts
    return f'{{"type": "{kind}", "mode": "{mode:04o}", "uid": {uid}, "gid": {gid}, "size": {bytes_}}}'


@cache
def _encoded_rest(metadata: tuple[str, ...], package: str, fold: str) -> str:
    return json.dumps({"metadata": metadata, "package": package, "fold": fold})[1:]


def packages(result: Difference, paint: Paint) -> str:
    """The packages with their versions, and the amount of their changes."""
    owned: dict[str, list[Change]] = {}
    for change in result.changes:
        if not change.fold:
            owned.setdefault(change.package, []).append(change)
    rows = [
        (p.kind, quoted(p.name), arrow(quoted(p.old), quoted(p.new)), *_amount(owned.get(p.name, ())))
        for p in result.packages
    ]
    return _painted(rows, paint)


def files(result: Difference, everything: bool, paint: Paint) -> str:
    """Every path."""
    shown = [change for change in result.changes if everything or not change.fold]
    rows = [(*_row(change), f"({quoted(change.package)})" if change.package else "") for change in shown]
    return _joined(_painted(rows, paint), "" if everything else _folded(result.changes))


def summary(result: Difference, everything: bool, paint: Paint) -> str:
    """Changes by package; all files of a package in another version are one line."""
    versions = {package.name for package in result.packages}
    left = [c for c in result.changes if c.package not in versions and (everything or not c.fold)]
    groups: dict[str, list[Change]] = {}
    for change in left:
        groups.setdefault(change.package, []).append(change)
    others = groups.pop("", [])
    parts = [_titled("Packages", packages(result, paint), paint)]
    for name, owned in sorted(groups.items()):
        parts.append(_titled(f"Files of {quoted(name)}", _painted([_row(change) for change in owned], paint), paint))
    parts.append(_titled("Files of no package", _painted(list(_collapsed(others)), paint), paint))
    return _joined("\n\n".join(part for part in parts if part), "" if everything else _folded(result.changes), "\n")


def patches(contents: Iterable[ContentPair], name: str, paint: Paint | None = None) -> str:
    """The text differences; contents are exact without a paint, else escaped."""
    if paint is None:
        return "".join(line for found in contents for line in patch.lines(found, name))
    return "".join(line for found in contents for line in _in_colours(patch.lines(found, name), paint))


def _in_colours(lines: Iterable[str], paint: Paint) -> Iterator[str]:
    in_hunks = False  # before, a "---" is no line that is gone
    for line in lines:
        in_hunks = in_hunks or line.startswith("@@ ")
        colour = _LINE_COLOURS.get(line[0], "") if in_hunks else "bold"
        yield f"{paint(visible(line[:-1]), colour)}\n"


def _row(change: Change) -> _Row:
    kind = change.type
    path = f"{change.path}/" if kind == "directory" else change.path
    return change.kind, patch.quoted(path), ", ".join(_described(change, kind))


def _described(change: Change, kind: FileType) -> list[str]:
    words = []
    if change.kind in ("added", "deleted", "modified"):
        if kind == "file":
            words.append(" -> ".join([size(found.size) for found in (change.old, change.new) if found is not None]))
        elif kind != "directory":
            words.append(kind)
    return words + changes.details(change)


def _collapsed(found: Sequence[Change]) -> Iterator[_Row]:
    """A new directory and everything in it as one line."""
    by_path = {change.path: change for change in found}
    inner: dict[str, list[Change]] = {}
    outermost: dict[str, str] = {}  # of the new directories that what is in a directory is in; "" for none
    for change in found:
        directory = change.path.rpartition("/")[0]
        if directory not in outermost:
            above = [path for path in ancestors(change.path) if _is_new_directory(by_path.get(path))]
            outermost[directory] = above[-1] if above else ""
        inner.setdefault(outermost[directory] or change.path, []).append(change)
    for path, below in inner.items():
        kind, name, described = _row(by_path[path])
        yield kind, name, described or ", ".join(part for part in _amount(below) if part)


def _is_new_directory(change: Change | None) -> bool:
    return change is not None and change.kind == "added" and change.type == "directory"


def _amount(found: Iterable[Change]) -> tuple[str, str]:
    """The number of files, and the bytes of existing ones."""
    inside = [change for change in found if change.type != "directory"]
    if not inside:
        return "", ""
    return count(len(inside), "file"), size(sum(change.new.size for change in inside if change.new))


def _folded(found: Iterable[Change]) -> str:
    groups: dict[str, list[Change]] = {}
    for change in found:
        if change.fold and change.type != "directory":
            groups.setdefault(change.fold, []).append(change)
    parts = [f"{_FOLDED[name]} ({', '.join(_amount(groups[name]))})" for name in sorted(groups)]
    return f"not shown without --all: {', '.join(parts)}" if parts else ""


def _titled(title: str, lines: str, paint: Paint) -> str:
    return f"{paint(title, 'bold')}\n{lines}" if lines else ""


def _joined(lines: str, last: str, between: str = "") -> str:
    return f"\n{between}".join(part for part in (lines, last) if part)


def _painted(rows: Sequence[_Row], paint: Paint) -> str:
    lines = table((_TITLES.get(kind, kind), *rest) for kind, *rest in rows).splitlines() if rows else []
    return "\n".join(paint(line, _COLOURS.get(row[0], "")) for line, row in zip(lines, rows, strict=True))
