"""What throwaway environments that have ended have left, which whoever comes next deletes; it knows no others.

Each session of a throwaway environment imports this, and many may begin at the same time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from sysenv_ns.environment import ephemeral, layers, running, transaction
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import removal
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.packages import origin

_AT_ONCE = 100  # throwaway environments that are deleted together: each is a descriptor


def remove(store: Store, wait: bool = True) -> None:
    """Delete the throwaway environments that have ended, as far as this user can.

    Of processes that begin together one does it, and the others go on; with `wait` it is done when this returns.
    """
    if not any(ephemeral.ended(store)):
        return
    with transaction.turn(store.trash, wait) as is_ours:
        ended = list(ephemeral.ended(store)) if is_ours else []
        # What cannot be deleted is told by `remove` and `doctor`: it is not what the user has called for.
        with contextlib.suppress(OSError, SysenvError):
            for first in range(0, len(ended), _AT_ONCE):
                trashed = _ended_to_trash(store, ended[first : first + _AT_ONCE])
                origin.collect(store)
                layers.collect(store)
                for id_map, paths in trashed.items():
                    removal.remove_trees(paths, id_map)


def _ended_to_trash(store: Store, ended: Sequence[Environment]) -> dict[IdMap | None, list[Path]]:
    """Move those without processes to the trash, as far as possible; their paths there, by their id maps."""
    with contextlib.ExitStack() as stack:
        held = []
        for environment in ended:
            with contextlib.suppress(SysenvError):  # it is another user's, or gone meanwhile
                environment.require_root()
                stack.enter_context(store.lock(environment.name))
                held.append(environment)
        with running.scan() as seen:  # other processes may live in it yet
            left = [environment for environment in held if not seen.of(environment)]
        trashed: dict[IdMap | None, list[Path]] = {}
        for environment in left:
            with contextlib.suppress(OSError, SysenvError):
                if (id_map := _needed_map(environment)) not in trashed:
                    # While it still has its name: without the id map its files could only be lost, not deleted.
                    if id_map is not None or os.geteuid() == 0:
                        namespace.run_inside(id_map, lambda: None, "sysenv-ns-rm")
                    trashed[id_map] = []
                trashed[id_map].append(transaction.move_to_trash(environment.path, store.trash))
    return trashed


def _needed_map(environment: Environment) -> IdMap | None:
    """The id map that deleting its files takes; None if all are this user's, as of one whose changes were in memory."""
    places = [environment.upper, environment.work]
    with contextlib.suppress(OSError):
        if os.geteuid() != 0 and all(not os.listdir(path) and path.lstat().st_uid == os.geteuid() for path in places):
            return None
    return environment.id_map
