"""apply: applies an environment's changes to this system, and undoes that."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from sysenv_ns.apply import apt, client, metadata, plan, planner, risks
from sysenv_ns.apply.execution import Done
from sysenv_ns.apply.plan import PackageStep, Plan, Step
from sysenv_ns.apply.root import Request, Undone
from sysenv_ns.apply.undo import Restored, Undo
from sysenv_ns.console import confirmed, show, show_json, show_plan
from sysenv_ns.errors import SysenvError
from sysenv_ns.notices import notice
from sysenv_ns.text import arrow, quoted, size, table, visible
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples

_MANY = 8  # files left alone that are told one by one
_SIGNS = {"put": "~", "metadata": "~", "delete": "-"}


@click.command(
    "apply",
    epilog=examples(
        "sysenv-ns apply --dry-run proj  # what would be done",
        "sysenv-ns apply proj -- /etc/ssh/ssh_config  # this file alone",
        "sysenv-ns apply --undo  # the last one",
    ),
)
@click.argument("name", metavar="NAME|ID", required=False)
@click.argument("paths", metavar="[-- PATH...]", nargs=-1)
@click.option("--undo", is_flag=True, help="Undo an apply: the one with this ID, or the last one.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--packages", is_flag=True, help="Only packages and their sources.")
@click.option("--files", is_flag=True, help="Only files.")
@click.option("--force", is_flag=True, help="With --undo: also undo files that have changed since.")
@JSON
@click.pass_obj
def command(
    context: Context,
    name: str | None,
    paths: tuple[str, ...],
    undo: bool,
    dry_run: bool,
    yes: bool,
    packages: bool,
    files: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Apply an environment's changes to this system.

    It shows what would be done, and asks before it does anything. Packages are installed by this system's apt, in
    the environment's versions; files of no package are copied, or only those PATHs. It needs sudo. What it replaces is
    kept in /var/backups/sysenv-ns, and --undo restores it.
    """
    refuse_inside("change this system")
    if as_json and not (dry_run or yes):
        raise click.UsageError("--json cannot ask: give --dry-run or --yes too.")
    if undo:
        if paths or packages or files:
            raise click.UsageError("--undo undoes a whole apply: give its ID only.")
        _undo(name or "", dry_run, yes, force, as_json)
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME'.")
    if force:
        raise click.UsageError("--force needs --undo.")
    both = packages == files
    places = tuple(os.path.join(os.getcwd(), path) for path in paths)
    options = planner.ApplyOptions((packages or both) and not paths, files or both, places)
    _apply(context, name, options, dry_run, yes, as_json)


def _apply(context: Context, name: str, options: planner.ApplyOptions, dry_run: bool, yes: bool, as_json: bool) -> None:
    made = planner.make(context.store, name, options)
    if not as_json and (shown := text(made.plan, made.texts)):
        (show if dry_run else show_plan)(shown)
    if made.plan.is_empty:
        notice(f"nothing of {name} to apply")
    done = None
    if not (dry_run or made.plan.is_empty):
        _agree(yes)
        done = client.ask(Request(made.plan), Done, lambda pipe: planner.send(context.store, made, pipe))
        notice(f"applied {name} to this system; to undo it: sysenv-ns apply --undo {done.ident}")
    if as_json:
        show_json(as_data(made.plan, done, made.texts))
    if done and done.skipped:
        raise SysenvError(f"{len(done.skipped)} files were skipped", "create their owners, then apply again")


def _undo(ident: str, dry_run: bool, yes: bool, force: bool, as_json: bool) -> None:
    found = client.ask(Request(ident=ident), Undo)
    if not as_json and (shown := undo_text(found, force)):
        (show if dry_run else show_plan)(shown)
    done = None
    if not found.finished:
        notice(f"{found.ident} was not completed")
    if not dry_run:
        if found.files or found.packages or found.unavailable or found.repair:
            _agree(yes)
        else:
            notice("everything is as it was before")
        done = client.ask(Request(ident=found.ident, undo=found, force=force), Undone)
        notice(f"undid {found.ident}" if not done.kept else f"partly undid {found.ident}")
    if as_json:
        show_json({"plan": asdict(found), "done": asdict(done) if done else None})
    if done and done.unsound:
        notice(f"dpkg has not finished configuring {', '.join(done.unsound)}; see: dpkg --audit")
    if done and done.kept:
        kept = ", ".join(map(quoted, done.kept[:5]))
        raise SysenvError(
            f"changed since, and not undone: {kept}", f"see: sysenv-ns apply --undo {ident} --force".rstrip()
        )


def _agree(yes: bool) -> None:
    if not confirmed("Make these changes to this system, as root?", yes):
        raise SysenvError("nothing was done", "answer yes, or give --yes")


def text(made: Plan, texts: Mapping[str, str] | None = None) -> str:
    """The plan, in the order in which it is carried out. No text of the environment can hide a line of it.

    `texts`: the contents of files that are shown, by path.
    """
    sources = [step for step in made.steps if step.of_sources]
    files = [step for step in made.steps if not step.of_sources]
    parts = [
        "\n".join(f"warning: {quoted(risk.what)}: {quoted(risk.why)}" for risk in risks.of_plan(made)),
        _steps("Sources of packages", sources, texts or {}),
        _titled("Packages", [_package(package) for package in made.packages]),
        _titled("Commands", [(_command(command),) for command in _commands(made)]),
        _steps("Files", files, texts or {}),
        _titled("Left alone", list(_left(made))),
    ]
    return "\n\n".join(part for part in parts if part)


def _steps(title: str, steps: Sequence[Step], texts: Mapping[str, str]) -> str:
    if not steps:
        return ""
    lines = [title]
    for step, row in zip(steps, table([_step(step) for step in steps]).splitlines(), strict=True):
        lines.append(f"  {row}")
        if plan.has_text(step):
            lines += [f"      {line}" for line in _text(texts.get(step.path))]
    return "\n".join(lines)


def _text(text: str | None) -> list[str]:
    if text is None:
        return ["(not shown)"]
    return [f"| {visible(line)}" for line in text.removesuffix("\n").split("\n")]


def _commands(made: Plan) -> list[tuple[str, ...]]:
    update = [apt.UPDATE] if made.changes_sources else []
    places = {package.name: f"./{package.file}" for package in made.packages if package.file}
    return [*update, *apt.commands(made.packages, places)]


def _command(words: Sequence[str]) -> str:
    return " ".join(quoted(word) for word in words)


def _titled(title: str, rows: Sequence[Sequence[str]]) -> str:
    lines = table(rows).splitlines() if rows else []
    return "\n".join([title, *(f"  {line}" for line in lines)]) if rows else ""


def _package(package: PackageStep) -> tuple[str, ...]:
    more = ["automatic"] if package.automatic else []
    more += [f"from the environment's {quoted(package.file)}, {size(package.size)}"] if package.file else []
    return package.action, quoted(package.name), arrow(quoted(package.old), quoted(package.new)), ", ".join(more)


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
    elif new and new.type == "fifo" and not old:
        yield new.type
    sizes = [size(entry.size) for entry in (old, new) if entry and entry.type == "file"]
    if sizes and step.action != "metadata":
        yield " -> ".join(sizes)
    if new and new.type == "symlink":
        yield f"-> {quoted(new.target)}"
    if new:
        yield from map(quoted, metadata.differences(old, new, step.was, step.owner))


def _left(made: Plan) -> Iterator[tuple[str, str]]:
    """Of many with the same reason, some and their number."""
    groups: dict[str, list[str]] = {}
    for part in made.left:
        groups.setdefault(part.why, []).append(part.what)
    for why, names in groups.items():
        for name in names[:_MANY]:
            yield quoted(name), quoted(why)
        if len(names) > _MANY:
            yield f"and {len(names) - _MANY} more", quoted(why)


def undo_text(undo: Undo, force: bool) -> str:
    """What undoing an apply would do."""
    parts = [
        _titled("Files", [_restored(file, force) for file in undo.files]),
        _titled("Packages", [_package(package) for package in undo.packages]),
        _titled("Commands", [(_command(command),) for command in apt.commands(undo.packages, {})]),
        _titled("Left alone", [(quoted(name), "apt no longer has this version") for name in undo.unavailable]),
    ]
    return "\n\n".join(part for part in parts if part)


def _restored(file: Restored, force: bool) -> tuple[str, ...]:
    path = quoted(file.path)
    if file.state == "changed" and not force:
        return "=", path, "changed since: stays (--force overwrites it, and keeps it beside the backup)"
    sign = "-" if file.old is None else "+" if file.now is None else "~"
    details = ["changed since"] if file.state == "changed" else []
    if file.old is not None:
        details += metadata.differences(file.now, file.old, plan.owner_of(file.now), plan.owner_of(file.old))
    return sign, path, ", ".join(map(quoted, details))


def as_data(made: Plan, done: Done | None, texts: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The result for --json; `done` is None if nothing was done."""
    data = plan.as_data(made)
    for step, row in zip(made.steps, data["steps"], strict=True):
        row |= {"details": list(_details(step)), "text": (texts or {}).get(step.path)}
    commands = [list(command) for command in _commands(made)]
    warnings = [asdict(risk) for risk in risks.of_plan(made)]
    return {"plan": {**data, "commands": commands, "warnings": warnings}, "done": asdict(done) if done else None}
