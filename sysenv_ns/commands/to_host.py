"""The command apply: parse, call, ask, render."""

from __future__ import annotations

import os
from typing import Any

import click

from sysenv_ns.commands.console import JSON, Context, confirmed, notice, refuse_inside, show, show_plan
from sysenv_ns.errors import SysenvError


@click.command()
@click.argument("name", metavar="NAME|ID", required=False)
@click.argument("paths", metavar="[-- PATH...]", nargs=-1)
@click.option("--undo", is_flag=True, help="Take back what an apply did: the one named ID, or the last one.")
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
@click.option("--yes", is_flag=True, help="Do what is shown without asking.")
@click.option("--packages", is_flag=True, help="Packages and their sources alone.")
@click.option("--files", is_flag=True, help="Files alone.")
@click.option("--force", is_flag=True, help="With --undo: also files that somebody has changed since.")
@JSON
@click.pass_obj
def apply(
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
    """Carry an environment's changes over to this system.

    What would be done is shown, then asked; without a yes nothing is. Packages are installed by this system's apt, in
    the environment's versions; files of no package are copied, or those PATHs alone. It needs sudo. What it replaces is
    kept in /var/backups/sysenv-ns, and --undo restores it.
    """
    refuse_inside("change this system")
    if as_json and not (dry_run or yes):
        raise click.UsageError("--json does not ask: give --dry-run or --yes too.")
    if undo:
        if paths or packages or files:
            raise click.UsageError("--undo takes back all of an apply: it takes its ID alone.")
        _undo(name or "", dry_run, yes, force, as_json)
        return
    if name is None:
        raise click.UsageError("Missing argument 'NAME'.")
    if force:
        raise click.UsageError("--force is for --undo alone.")
    from sysenv_ns.to_host import making

    places = tuple(os.path.join(os.getcwd(), path) for path in paths)
    both = packages == files
    _apply(
        context, name, making.Options((packages or both) and not paths, files or both, places), dry_run, yes, as_json
    )


def _apply(context: Context, name: str, options: Any, dry_run: bool, yes: bool, as_json: bool) -> None:
    from sysenv_ns import render as general
    from sysenv_ns.to_host import making, plan, render, sending

    made = making.make(context.store, name, options)
    if not as_json and (text := render.text(made.plan)):
        (show if dry_run else show_plan)(text)
    if made.plan.is_empty:
        notice(f"there is nothing of {name} to be carried over")
    done = None
    if not (dry_run or made.plan.is_empty):
        _agree(yes)
        request = {"verb": "apply", "plan": plan.as_data(made.plan)}
        done = sending.ask(request, lambda pipe: making.send(context.store, made, pipe))
        notice(f"{name} is applied to this system; to take it back: sysenv-ns apply --undo {done['ident']}")
    if as_json:
        show(general.as_json(render.as_data(made.plan, done)))
    if done and done["skipped"]:
        raise SysenvError(f"{len(done['skipped'])} files were skipped", "make their owners, then apply it again")


def _undo(ident: str, dry_run: bool, yes: bool, force: bool, as_json: bool) -> None:
    from sysenv_ns import render as general
    from sysenv_ns.diff.patch import quoted
    from sysenv_ns.to_host import render, sending

    found = sending.ask({"verb": "show", "ident": ident})
    if not as_json and (text := render.undo_text(found, force)):
        (show if dry_run else show_plan)(text)
    done = None
    if not found["finished"]:
        notice(f"{found['ident']} did not come to its end")
    if not dry_run:
        if any(found[key] for key in ("files", "packages", "unavailable", "repair")):
            _agree(yes)
        else:
            notice("all is as it was before it")
        done = sending.ask({"verb": "undo", "ident": found["ident"], "plan": found, "force": force})
        notice(f"{found['ident']} is taken back" if not done["kept"] else f"{found['ident']} is taken back in part")
    if as_json:
        show(general.as_json({"plan": found, "done": done}))
    if done and done["unsound"]:
        notice(f"dpkg is not done with {', '.join(done['unsound'])}; see: dpkg --audit")
    if done and done["kept"]:
        kept = ", ".join(map(quoted, done["kept"][:5]))
        raise SysenvError(
            f"changed since, and left as it is: {kept}", f"see: sysenv-ns apply --undo {ident} --force".rstrip()
        )


def _agree(yes: bool) -> None:
    if not confirmed("Do this to this system, as root?", yes):
        raise SysenvError("nothing was done", "it is done with a yes alone")


COMMANDS = (apply,)
