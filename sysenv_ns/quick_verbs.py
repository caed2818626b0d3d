"""Plain calls of some verbs, without click, which would take half of the time; all others are left to cli.py.

What they do and say is what their modules in verbs/ do and say. Where only root can go on, where something has to be
asked, or where there are colours, nothing has been done, and those do it.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, failures, notices
from sysenv_ns.basics import contextmanager
from sysenv_ns.environment import rootstore, running
from sysenv_ns.errors import EXIT_FAILURE, NeedsRoot
from sysenv_ns.reporter import Reporter, unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from sysenv_ns.environment.store import Store


def run(arguments: Sequence[str]) -> int | None:
    """Do what a plain call says. Returns the exit status, None if the call is not plain."""
    action = planned(arguments)
    if action is None or os.environ.get("SYSENV_NS") or running.inside():
        return None
    return failures.guarded(lambda: _done(action), EXIT_FAILURE)


def planned(arguments: Sequence[str]) -> Callable[[Store], None] | None:
    """What a plain call does: create NAME, rebase --dry-run NAME, or list to a pipe or a file; None for others."""
    match [*arguments]:
        case ["create", name] if _is_plain(name):
            return lambda store: create(store, name)
        case ["rebase", "--dry-run", name] | ["rebase", name, "--dry-run"] if _is_plain(name):
            return lambda store: show_rebase(store, name)
        case ["list"] if not notices.on_terminal():
            return list_all
    return None


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith("-")


def _done(action: Callable[[Store], None]) -> int | None:
    try:
        action(rootstore.of_user())
    except (NeedsRoot, _MustAsk):
        return None
    return 0


def create(store: Store, name: str) -> None:
    """Create an environment with the user's settings. Raises SysenvError."""
    from sysenv_ns import creation
    from sysenv_ns.environment import config
    from sysenv_ns.environment.store import check_name

    check_name(name)
    settings = config.of_user(store)
    creation.create(store, name, settings.driver, settings.id_map, _reporter())
    notices.notice(creation.created(name))


def list_all(store: Store) -> None:
    """List all environments. Raises SysenvError."""
    from sysenv_ns import listing, status
    from sysenv_ns.environment import ephemeral

    if any(ephemeral.ended(store)):
        from sysenv_ns import remains

        remains.remove(store)
    if statuses := status.all_of(store):
        notices.result(listing.text(statuses))
    else:
        notices.notice(listing.NONE)


def show_rebase(store: Store, name: str) -> None:
    """Show what a rebase would do. Raises SysenvError."""
    from sysenv_ns import units
    from sysenv_ns.rebase import rebase, shown

    reporter = _reporter()
    with units.paused(store, name, reporter):
        options = rebase.RebaseOptions(dry_run=True)
        result = rebase.run(store, name, options, lambda said: False, reporter, lambda: bar(f"Rebasing {name}"))
    notices.result(shown.text(result))


def _reporter() -> Reporter:
    ask = _asked if notices.can_ask() else None
    return Reporter(notices.notice, lambda message: None, lambda: bar("Reading the host"), ask)


def bar(label: str) -> AbstractContextManager[Callable[[float], None]]:
    """See console.progress, which needs click: it is loaded where a bar can be drawn alone."""
    if not notices.can_draw():
        return _no_bar()
    from sysenv_ns import libraries

    libraries.find()
    from sysenv_ns import console

    return console.progress(label)


@contextmanager
def _no_bar() -> Iterator[Callable[[float], None]]:
    yield unseen


class _MustAsk(Exception):
    """Something has to be asked, which comes before anything that is not undone: not here, or it would be asked twice
    where only root can go on after it.
    """


def _asked(question: str) -> bool:
    raise _MustAsk
