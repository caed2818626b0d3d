"""Brings the host's users and groups into an environment that has accounts of its own, when it starts.

By the rules of a rebase (databases.py), and without packages: whoever is new on the host is there inside, a password or
a shell that was changed there has changed here too, and what the environment has made of them stays.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from sysenv_ns.basics import opened
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.files import replacement
from sysenv_ns.files.reader import Root
from sysenv_ns.packages import databases, origin
from sysenv_ns.packages.old import Old
from sysenv_ns.records import replace


def follow(store: Store, environment: Environment, notice: Callable[[str], None]) -> None:
    """Merge what is mounted, as root of its namespace, before it is this process's root. Raises OSError."""
    seen = origin.current_accounts()
    if (known := origin.read(environment.path)) is None:
        return
    place = origin.path_of(store, known.accounts)
    before = Old(place, place)
    if place.is_dir() and any(before.read(path) != origin.content(path) for path in origin.ACCOUNTS):
        key = origin.remember(store)
        now = origin.path_of(store, key)
        with Root(environment.root) as root:
            merged = databases.accounts(before, Old(now, now), _Mounted(root))
            for path in origin.owned(environment, origin.ACCOUNTS):
                if (old := root.get(path)) is not None and old != merged.contents[path]:
                    _write(root, path, merged.contents[path])
        origin.write(environment.path, replace(known, accounts=key))
        for note in merged.notes:
            notice(note)
    origin.note_accounts_seen(environment, seen)


class _Mounted:
    """The account files of a mounted environment."""

    def __init__(self, root: Root) -> None:
        self.read = root.get


def _write(root: Root, path: str, content: bytes) -> None:
    """Replace a file by one with the same owner and mode, all at once. Raises OSError."""
    parent, _, name = path.rpartition("/")
    directory, status = root.directory(parent), root.status(path)
    owner, mode = (status.st_uid, status.st_gid), stat.S_IMODE(status.st_mode)
    with opened(directory):
        replacement.replace_at(directory, name, f"{name}.sysenv-ns-new", content, mode, owner=owner)
