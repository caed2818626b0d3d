"""sync: makes an environment match a sysenv.toml; and finds the one that belongs to a directory, for `shell`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from sysenv_ns.console import confirmed, show, show_json, show_plan
from sysenv_ns.environment import config
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import check_name
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.manifest import inspection, location, parser, sync
from sysenv_ns.manifest.document import AddedFile
from sysenv_ns.manifest.plans import Action
from sysenv_ns.manifest.selection import TEXT_LIMIT
from sysenv_ns.manifest.sync import SyncResult
from sysenv_ns.notices import notice
from sysenv_ns.text import is_text, line, quoted, table
from sysenv_ns.verbs.context import Context, one_means_different, refuse_inside
from sysenv_ns.verbs.create import New, make, meant
from sysenv_ns.verbs.options import CREATE, DRIVER, ID_MAP, JSON, examples
from sysenv_ns.verbs.pull import pulled

_DIFFERENT = 1
_SIGNS = {
    "pull": ("+", "registry"),
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
_WHYS = {
    "drop": "and packages that nothing else needs",
    "pull": "what else differs can be seen only when it has been pulled; you are asked again",
}


@click.command(
    "sync",
    epilog=examples(
        "sysenv-ns sync  # by the sysenv.toml here",
        "sysenv-ns sync --check  # in CI: what differs",
        "sysenv-ns sync --yes other ./sysenv.toml",
    ),
)
@click.argument("arguments", metavar="[NAME] [FILE]", nargs=-1)
@click.option(
    "--check",
    is_flag=True,
    help="Change nothing: show the differences; exit with 1 if there are any, with 2 on failure.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Accept a file for another release or architecture.")
@CREATE
@DRIVER
@ID_MAP
@JSON
@click.pass_obj
def command(
    context: Context,
    arguments: tuple[str, ...],
    check: bool,
    yes: bool,
    force: bool,
    sure: bool,
    driver: str | None,
    id_map: str | None,
    as_json: bool,
) -> None:
    """Make an environment match a sysenv.toml. It is created if it does not exist.

    FILE is by default the sysenv.toml in this directory, or in the nearest one above; NAME is what the file says, or
    the name of its directory.
    """
    if check:
        one_means_different()
    refuse_inside("sync an environment")
    name, file = _arguments(context, arguments)
    new = New(driver, id_map, sure=sure)
    if name is not None and not check:
        name = meant(context, name, new)
    run(context, name, file, new, check=check, yes=yes, force=force, as_json=as_json)


def _arguments(context: Context, arguments: tuple[str, ...]) -> tuple[str | None, Path]:
    if len(arguments) > 2:
        raise click.UsageError("Too many arguments: give a NAME, a FILE or both.")
    names = list(arguments)
    # A name has no slash; a single argument that looks like one of these files is that.
    given = names.pop() if len(names) == 2 or (names and _is_file(names[0])) else None
    file = Path(os.path.abspath(given)) if given else nearest(context)
    return check_name(names[0]) if names else None, file / location.NAME if file.is_dir() else file


def _is_file(argument: str) -> bool:
    return "/" in argument or argument.endswith(".toml")


def nearest(context: Context) -> Path:
    """The sysenv.toml that is meant where none is named. Raises SysenvError, UsageError."""
    file = _found(context)
    if file is None:
        raise click.UsageError(f"Missing argument: there is no {location.NAME} here, nor in a directory above.")
    return file


def _found(context: Context) -> Path | None:
    with context.store.as_user():
        return location.nearest(context.caller.uid if context.caller else os.geteuid())


def run(
    context: Context,
    name: str | None,
    file: Path,
    new: New,
    *,
    check: bool = False,
    yes: bool = False,
    force: bool = False,
    as_json: bool = False,
    expected: Sequence[str] = (),
) -> str:
    """Sync, if the user agrees, and print what was done; returns the name.

    Nobody is asked where only `expected` packages come or go, in an environment that was made from this file.
    """
    if not name:
        with context.store.as_user():
            name = location.name_of(parser.load(file), file)

    def agree(result: SyncResult) -> bool:
        if result.origin == result.file and all(_is_package(action, expected) for action in result.actions):
            return True
        show_plan(text(result))
        return confirmed("Its scripts can do whatever you can. Continue?", yes)

    def create(name: str, base: str) -> Environment:
        return pulled(context, base, name, new, force).environment if base else make(context, name, new)

    asking = sync.Asking(agree, create, context.reporter)
    result = sync.run(context.store, name, file, sync.SyncOptions(check, force), asking)
    if as_json:
        show_json(as_data(result))
    elif check:
        show(text(result))
    for note in result.notes:
        notice(note)
    if check and (result.actions or result.created):
        raise click.exceptions.Exit(_DIFFERENT)
    if not check:
        notice(f"{name} matches {file}" if result.actions or result.created else f"{name} already matches {file}")
    return name


def _is_package(action: Action, names: Sequence[str]) -> bool:
    return action.kind in ("install", "drop") and action.subject in names


def environment_here(context: Context, new: New) -> str:
    """The environment of the sysenv.toml here, created if the user agrees; without one, the user's default.

    Raises SysenvError, UsageError.
    """
    refuse_inside("enter an environment")
    file = _found(context)
    if file is None and (default := config.of_user(context.store).default):
        return default
    file = file or nearest(context)
    with context.store.as_user():
        manifest = parser.load(file)
    name = location.name_of(manifest, file)
    if not context.store.exists(name):
        return run(context, name, file, new)
    record = inspection.record_of(context.store.load(name))
    if record is None or record.file != str(file):
        other = f", but from {record.file}" if record else ""
        raise SysenvError(
            f"the environment {name} was not made from {file}{other}",
            f'put another name = "..." into the file, or make it match: sysenv-ns sync {name} {file}',
        )
    if not record.says(manifest):
        notice(f"{file} has changed; to apply the changes: sysenv-ns sync")
    return name


def as_data(result: SyncResult) -> dict[str, Any]:
    """The result for --json."""
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


def text(result: SyncResult) -> str:
    """The plan, with the full text of scripts, repositories, answers and files, if readable."""
    if not result.actions:
        return f"{result.name} matches {quoted(result.file)}"
    what = "will be created from" if result.created else "differs from"
    rows = [_row(action) for action in result.actions]
    lines = [f"{result.name} {what} {quoted(result.file)}:"]
    if not result.created and result.origin != result.file:
        made = f"was made from {quoted(result.origin)}" if result.origin else "was not made from a sysenv.toml"
        lines.append(f"  it {made}")
    for action, row in zip(result.actions, table(rows).split("\n"), strict=True):
        lines.append(f"  {row}")
        lines += [f"      | {line(found)}" for found in _details(action)]
    return "\n".join(lines)


def _row(action: Action) -> tuple[str, ...]:
    sign, what = _SIGNS[action.kind]
    nothing = action.kind in ("repository", "key", "file") and action.value is None
    why = _looks(action.value) if isinstance(action.value, AddedFile) else _WHYS.get(action.kind, "")
    return ("-" if nothing else sign, what, quoted(action.subject), why)


def _looks(file: AddedFile) -> str:
    """The owner and mode, if they are not the usual ones."""
    mode = f"mode {file.mode:04o}" if file.mode != AddedFile.mode else ""
    owner = f"owner {quoted(file.owner)}" if file.owner != AddedFile.owner else ""
    return ", ".join(filter(None, (mode, owner)))


def _details(action: Action) -> Iterator[str]:
    if isinstance(action.value, AddedFile):
        yield from _content(action.subject, action.value)
    elif action.value is not None and action.kind in ("script", "repository", "answer"):
        yield from _lines(action.value)


def _content(path: str, file: AddedFile) -> Iterator[str]:
    """The content of a file: those below /etc/apt decide what apt runs during the sync."""
    if file.link is not None:
        yield f"-> {quoted(file.link)}"
    elif is_below(path, "/etc/apt") or (len(file.content) <= TEXT_LIMIT and is_text(file.content)):
        yield from _lines(file.content)
    else:
        yield f"({len(file.content)} bytes{f' of {quoted(file.source)}' if file.source else ''}, not shown)"


def _lines(content: bytes) -> list[str]:
    return content.decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
