"""The commands freeze and sync, and how `shell` finds the environment of a directory: parse, call, render."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sysenv_ns.commands.console import (
    DRIVER,
    ID_MAP,
    JSON,
    NAME,
    Context,
    confirmed,
    notice,
    refuse_inside,
    show,
    show_plan,
)
from sysenv_ns.commands.making import New, make
from sysenv_ns.errors import SysenvError
from sysenv_ns.store import Environment, check_name

_DIFFERENT = 1


@click.command()
@NAME
@click.option("--exact", is_flag=True, help="With the versions of all packages, and the architecture.")
@JSON
@click.pass_obj
def freeze(context: Context, name: str, exact: bool, as_json: bool) -> None:
    """Write down what an environment is. It is the text of a sysenv.toml, for sync to make others like it."""
    refuse_inside("freeze an environment")
    from sysenv_ns import render
    from sysenv_ns.manifest import freezing, writing

    frozen = freezing.freeze(context.store, name, exact)
    text = writing.render(frozen.manifest, frozen.comments())
    if as_json:
        show(
            render.as_json(
                {"name": name, "text": text, "left": [{"what": what, "why": why} for what, why in frozen.left]}
            )
        )
    else:
        show(text.removesuffix("\n"))
        if frozen.left:
            notice(f"{len(frozen.left)} changes of {name} are not carried; they are listed at the end")


@click.command()
@click.argument("arguments", metavar="[NAME] [FILE]", nargs=-1)
@click.option("--check", is_flag=True, help="Change nothing: show what differs, and exit with 1 if anything does.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Use a file that is for another release or architecture.")
@DRIVER
@ID_MAP
@JSON
@click.pass_obj
def sync(
    context: Context,
    arguments: tuple[str, ...],
    check: bool,
    yes: bool,
    force: bool,
    driver: str | None,
    id_map: str | None,
    as_json: bool,
) -> None:
    """Let an environment match a sysenv.toml. One that does not exist is made.

    Without a FILE it is the sysenv.toml of this directory, or of the nearest one above. Without a NAME, what the file
    says, or the name of its directory.
    """
    refuse_inside("sync an environment")
    name, file = _arguments(context, arguments)
    _run(context, name, file, New(driver, id_map), check=check, yes=yes, force=force, as_json=as_json)


def _arguments(context: Context, arguments: tuple[str, ...]) -> tuple[str | None, Path]:
    from sysenv_ns.manifest import finding

    if len(arguments) > 2:
        raise click.UsageError("Too many arguments: give a NAME, a FILE or both.")
    names = list(arguments)
    # A name has no slash; a single argument that looks like one of these files is that.
    given = names.pop() if len(names) == 2 or (names and _is_file(names[0])) else None
    file = Path(os.path.abspath(given)) if given else _nearest(context)
    return check_name(names[0]) if names else None, file / finding.NAME if file.is_dir() else file


def _is_file(argument: str) -> bool:
    return "/" in argument or argument.endswith(".toml")


def _nearest(context: Context) -> Path:
    from sysenv_ns.manifest import finding

    file = finding.nearest(context.caller.uid if context.caller else os.geteuid())
    if file is None:
        raise click.UsageError(f"Missing argument: there is no {finding.NAME} here, nor in a directory above.")
    return file


def _run(
    context: Context,
    name: str | None,
    file: Path,
    new: New,
    *,
    check: bool = False,
    yes: bool = False,
    force: bool = False,
    as_json: bool = False,
) -> str:
    """Sync, as far as the user agrees, and say what was done; returns the name."""
    from sysenv_ns import render
    from sysenv_ns.manifest import finding, parsing, rendering, syncing

    name = name or finding.name_of(parsing.load(file), file)

    def agree(result: syncing.Result) -> bool:
        show_plan(rendering.plan(result))
        return confirmed("Scripts in it can do what you can. Go on?", yes)

    def create(name: str) -> Environment:
        return make(context, name, new)

    asking = syncing.Asking(agree, create, context.reporter)
    result = syncing.run(context.store, name, file, syncing.Options(check, force), asking)
    if as_json:
        show(render.as_json(rendering.as_data(result)))
    elif check:
        show(rendering.plan(result))
    for note in result.notes:
        notice(note)
    if check and (result.actions or result.created):
        raise click.exceptions.Exit(_DIFFERENT)
    if not check:
        notice(f"{name} matches {file}" if result.actions or result.created else f"{name} matches already: {file}")
    return name


def environment_here(context: Context, new: New) -> str:
    """The environment of the sysenv.toml here, which is made if the user agrees. Raises SysenvError."""
    from sysenv_ns.manifest import finding, parsing, plans, state

    refuse_inside("enter an environment")
    file = _nearest(context)
    manifest = parsing.load(file)
    name = finding.name_of(manifest, file)
    if not context.store.exists(name):
        return _run(context, name, file, new)
    record = plans.decode(state.record_of(context.store.load(name)))
    if record is None or record.file != str(file):
        other = f", but from {record.file}" if record else ""
        raise SysenvError(
            f"the environment {name} was not made from {file}{other}",
            f'put another name = "..." into the file, or let it match: sysenv-ns sync {name} {file}',
        )
    if not record.says(manifest):
        notice(f"{file} has changed: sysenv-ns sync")
    return name


COMMANDS = (freeze, sync)
