"""Plans of applies to text or JSON; fetches nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sysenv_ns.diff.patch import quoted
from sysenv_ns.render import size, table
from sysenv_ns.to_host import apt, plan
from sysenv_ns.to_host.entries import Entry
from sysenv_ns.to_host.plan import Package, Plan, Step

_MANY = 8  # files left alone that are told one by one
_SIGNS = {"put": "~", "metadata": "~", "delete": "-"}


def text(made: Plan) -> str:
    """What is done, in the order in which it is done. Nothing of the environment's can hide a line of it."""
    sources = [step for step in made.steps if step.of_sources]
    files = [step for step in made.steps if not step.of_sources]
    parts = [
        _titled("Sources of packages", [_step(step) for step in sources]),
        _titled("Packages", [_package(package) for package in made.packages]),
        _titled("Commands", [(_command(command),) for command in _commands(made)]),
        _titled("Files", [_step(step) for step in files]),
        _titled("Left alone", list(_left(made))),
    ]
    return "\n\n".join(part for part in parts if part)


def _commands(made: Plan) -> list[tuple[str, ...]]:
    update = [apt.UPDATE] if made.changes_sources else []
    places = {package.name: f"./{package.file}" for package in made.packages if package.file}
    return [*update, *apt.commands(made.packages, places)]


def _command(words: Sequence[str]) -> str:
    return " ".join(quoted(word) for word in words)


def _titled(title: str, rows: Sequence[Sequence[str]]) -> str:
    lines = table(rows).splitlines() if rows else []
    return "\n".join([title, *(f"  {line}" for line in lines)]) if rows else ""


def _package(package: Package) -> tuple[str, ...]:
    versions = " -> ".join(version for version in (package.old, package.new) if version)
    more = ["automatic"] if package.automatic else []
    more += [f"from the environment's {quoted(package.file)}, {size(package.size)}"] if package.file else []
    return package.action, quoted(package.name), quoted(versions), ", ".join(more)


def _step(step: Step) -> tuple[str, ...]:
    sign = "+" if step.old is None else _SIGNS[step.action]
    entry = step.new or step.old
    path = f"{step.path}/" if entry and entry.type == "directory" else step.path
    return sign, quoted(path), ", ".join(_details(step))


def _details(step: Step) -> Iterator[str]:
    old, new = step.old, step.new
    if step.link:
        yield f"another name of {quoted(step.link)}"
    elif step.action == "put" and old and new and old.type != new.type:
        yield f"{old.type} -> {new.type}"
    sizes = [size(entry.size) for entry in (old, new) if entry and entry.type == "file"]
    if sizes and step.action != "metadata":
        yield " -> ".join(sizes)
    if new and new.type == "symlink":
        yield f"-> {quoted(new.target)}"
    if new and (step.action == "metadata" or _is_unusual(new)):
        yield f"mode {new.mode:04o}"
    if step.user or step.group:
        owner = f"{step.user}:{step.group}"
        if owner != "root:root" or (old and (old.uid, old.gid) != (0, 0)):
            yield f"owner {quoted(owner)}"


def _is_unusual(entry: Entry) -> bool:
    return bool(entry.mode & 0o6000) or any(name.startswith("security.") for name, _ in entry.attributes)


def _left(made: Plan) -> Iterator[tuple[str, str]]:
    """Of many for the same reason, some and their number."""
    groups: dict[str, list[str]] = {}
    for part in made.left:
        groups.setdefault(part.why, []).append(part.what)
    for why, names in groups.items():
        for name in names[:_MANY]:
            yield quoted(name), quoted(why)
        if len(names) > _MANY:
            yield f"and {len(names) - _MANY} more", quoted(why)


def undo_text(undo: Mapping[str, Any], force: bool) -> str:
    """What it takes to take an apply back."""
    packages = [Package(**package) for package in undo["packages"]]
    parts = [
        _titled("Files", [_restored(file, force) for file in undo["files"]]),
        _titled("Packages", [_package(package) for package in packages]),
        _titled("Commands", [(_command(command),) for command in apt.commands(packages, {})]),
        _titled("Left alone", [(quoted(name), "apt has no such version any more") for name in undo["unavailable"]]),
    ]
    return "\n\n".join(part for part in parts if part)


def _restored(file: Mapping[str, Any], force: bool) -> tuple[str, ...]:
    path = quoted(file["path"])
    if file["state"] == "changed" and not force:
        return "=", path, "changed since: stays (--force overwrites it, and keeps it beside the backup)"
    sign = "-" if file["old"] is None else "+" if file["now"] is None else "~"
    return sign, path, "changed since" if file["state"] == "changed" else ""


def as_data(made: Plan, done: Mapping[str, Any] | None) -> dict[str, Any]:
    """For --json; `done` is None when nothing was."""
    commands = [list(command) for command in _commands(made)]
    return {"plan": {**plan.as_data(made), "commands": commands}, "done": done}
