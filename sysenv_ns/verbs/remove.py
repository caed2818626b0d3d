"""remove: removes environments, restores or deletes removed ones, and deletes bases that are no longer needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from sysenv_ns import failures, lifecycle
from sysenv_ns.console import asked, confirmed, show_json
from sysenv_ns.environment import config, links
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.removed import Removed
from sysenv_ns.errors import NeedsRoot, SysenvError
from sysenv_ns.lifecycle import Leaving
from sysenv_ns.mapped import client
from sysenv_ns.notices import can_ask, failure, hint, notice
from sysenv_ns.text import count, date, quoted
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples

_DAY = 24  # hours
_NEARLY_FULL = 0.05  # of a disk is free: who removes something may want its room


@dataclass(frozen=True)
class Removal:
    """What is going to be done: environments to remove, each for so many hours, and removed ones to delete for good."""

    names: tuple[str, ...]
    hours: int
    former: tuple[Removed, ...]

    @property
    def question(self) -> str:
        """All of it, as a list."""
        return ", ".join((*self.names, *(f"{one.name} (removed {date(one.removed)})" for one in self.former)))


@click.command(
    "remove",
    epilog=examples(
        "sysenv-ns remove proj",
        "sysenv-ns remove --undo proj  # restore it, within a day",
        "sysenv-ns remove --purge proj  # delete it at once",
        "sysenv-ns remove --purge  # delete all that was removed before",
        "sysenv-ns remove --base  # bases that no environment needs",
        "sysenv-ns remove --all  # before the tool is uninstalled",
    ),
)
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--undo", is_flag=True, help="Restore NAME as it was removed last; without NAME what was removed last.")
@click.option("--purge", is_flag=True, help="Delete for good, also what was removed as NAME; without NAME all of that.")
@click.option("--base", "with_base", is_flag=True, help="Also delete bases that no environment needs any more.")
@click.option("--all", "everything", is_flag=True, help="Delete all for good: environments, removed ones, bases.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal only --all needs it.")
@JSON
@click.pass_obj
def command(
    context: Context,
    names: tuple[str, ...],
    undo: bool,
    purge: bool,
    with_base: bool,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove environments. On a terminal it asks first.

    For a day (keep-removed in config.toml) a removed one can be restored: sysenv-ns list --removed shows which. The
    next create, remove, import or rebase after that deletes it. Files that their root left in your home stay there:
    sysenv-ns reclaim PATH makes them yours.
    """
    if names and everything:
        raise click.UsageError("--all is for all environments: leave the names out.")
    if undo and (purge or with_base or everything):
        raise click.UsageError("--undo goes with names only.")
    if not (names or undo or purge or with_base or everything):
        raise click.UsageError("Missing argument 'NAME...'.")
    refuse_inside("remove an environment")
    if undo:
        _undo(context, names, as_json)
        return
    planned = _planned(context, names, purge, everything)
    # Root deletes the part that it was left, whoever has agreed.
    _require_consent(planned, everything, yes or context.caller is not None)
    done, left = _carry_out(context, planned)
    bases = _remove_bases(context) if with_base or everything else {}
    if as_json:
        show_json({"removed": done, "bases": bases})
    if everything and client.has_made(os.getuid()):
        notice("what root has made for you stays until `sysenv-ns host release`")
    if left:
        need = next(iter(left.values()))
        flags = ("--yes", "--purge") if purge or everything else ("--yes",)
        need.arguments = ("remove", *flags, *(("--", *left) if names or everything else ()))
        raise need


def _planned(context: Context, names: tuple[str, ...], purge: bool, everything: bool) -> Removal:
    """Who is asked shall not be told afterwards that there is no such environment. Raises SysenvError."""
    store = context.store
    if everything:
        return Removal(tuple(store.all_names()), 0, tuple(store.all_removed()))
    former = tuple(one for one in store.all_removed() if not names or one.name in names) if purge else ()
    living = tuple(name for name in names if store.exists(name) or name not in [one.name for one in former])
    for name in living:
        store.directory(name)
    return Removal(living, config.of_user(store).keep_removed if living and not purge else 0, former)


def _require_consent(planned: Removal, everything: bool, agreed: bool) -> None:
    if everything:
        agreed = confirmed(f"Delete {planned.question or 'no environment'}, and all bases?", agreed)
    elif planned.question and not agreed and can_ask():
        agreed = asked(f"Delete {planned.question}, with everything in it?")
    else:
        agreed = True
    if not agreed:
        raise SysenvError("nothing was done", "answer yes, or give --yes")


def _carry_out(context: Context, planned: Removal) -> tuple[list[str], dict[str, NeedsRoot]]:
    """The names of what is gone, and what only root can do. Raises SysenvError."""
    done: list[str] = []

    def tell(gone: Leaving) -> None:
        done.append(gone.name)
        undo = f"; to undo this within {_span(planned.hours)}: sysenv-ns remove --undo {gone.name}" if gone.kept else ""
        notice(f"removed {gone.name}{undo}")
        if any(link.is_unit for link in gone.links):
            _tell_manager()

    left = lifecycle.remove_all(context.store, planned.names, context.caller, planned.hours, tell)
    if planned.hours and done and _is_nearly_full(context.store.path):
        notice("the disk is nearly full; to free the room of what was removed: sysenv-ns remove --purge")
    for one in lifecycle.delete_removed(context.store, planned.former):
        done.append(one.name)
        notice(f"deleted {one.name}, which was removed {date(one.removed)}")
    for one in planned.former:
        if one.path.parent != context.store.removed:
            left.setdefault(one.name, NeedsRoot(f"{one.name} has the driver root", "run sysenv-ns with sudo"))
    return done, left


def _tell_manager() -> None:
    """Units of the user's service manager have gone. The environment has too, whatever the manager says."""
    from sysenv_ns.home.services import tell_manager  # rarely needed

    try:
        tell_manager(os.environ)
    except (SysenvError, OSError) as error:
        said = failures.described(error)
        failure(said.message)
        hint(said.hint)


def _is_nearly_full(path: Path) -> bool:
    found = os.statvfs(path)
    return found.f_bavail < _NEARLY_FULL * found.f_blocks


def _span(hours: int) -> str:
    if hours == _DAY:
        return "a day"
    return count(hours // _DAY, "day") if hours % _DAY == 0 else count(hours, "hour")


def _undo(context: Context, names: tuple[str, ...], as_json: bool) -> None:
    restored: list[str] = []
    left: dict[str, NeedsRoot] = {}
    for name in dict.fromkeys(names) or (None,):
        try:
            environment = lifecycle.restore(context.store, name)
        except NeedsRoot as error:
            left[error.arguments[-1]] = error
            continue
        restored.append(environment.name)
        notice(f"restored {environment.name}")
        if links.read(environment.path):
            _relink(context, environment)
    if as_json:
        show_json({"restored": restored})
    if left:
        need = next(iter(left.values()))
        need.arguments = ("remove", "--undo", "--", *left)
        raise need


def _relink(context: Context, environment: Environment) -> None:
    from sysenv_ns.home.relink import relink  # rarely needed

    made, failures = relink(context.store, environment, context.reporter, context.caller)
    for found in made:
        notice(f"linked {quoted(found.path)} -> {quoted(found.target)}")
    for error in failures:
        failure(f"not all links of {environment.name} are there again: {error.message}")
        hint(error.hint)


def _remove_bases(context: Context) -> dict[str, int]:
    removed = lifecycle.remove_unused_bases(context.store)
    for base, size in removed.items():
        notice(f"removed the base {base} ({size / 1e6:.0f} MB)")
    if not removed:
        notice("there is no base to remove")
    return removed
