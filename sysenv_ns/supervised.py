"""What the supervisor of a session is told of its environment. Imports little, as it is started before most is there:
it shares this process's memory, of which each page is copied that one of the two writes to.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.environment import state
from sysenv_ns.kernel.duties import Duties
from sysenv_ns.kernel.emulation import Emulation
from sysenv_ns.kernel.processes import started_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from sysenv_ns.environment.description import Environment
    from sysenv_ns.environment.store import Store
    from sysenv_ns.kernel.duties import Watch


def emulation_of(store: Store, environment: Environment, manager: bool = False) -> Emulation | None:
    """The emulation of refused calls in a session, with its supervisor; None for a session of real root.

    `manager`: for a service manager instead.

    It is made before the pivot, as it loads a library, and before there is a lock that could be inherited.
    """
    if (id_map := environment.id_map) is None:
        return None
    changes = environment.upper if environment.ephemeral is None else None

    def watch() -> Watch:
        from sysenv_ns.livefiles import LiveFiles

        return LiveFiles(store.base, id_map)

    def serve_visitor(connection: int) -> None:
        from sysenv_ns import command  # in a process of its own, on the host's side
        from sysenv_ns.environment import config
        from sysenv_ns.host_commands import service

        def is_allowed() -> bool:
            return config.of_environment(store, environment).host_commands

        service.serve(connection, command.as_given(os.environ), is_allowed)

    return Emulation(id_map, Duties(changes, watch, serve_visitor, _look(store, environment)), manager)


def _look(store: Store, environment: Environment) -> Callable[[], bytes] | None:
    """A look at the base that was mounted last; None where that is not known, or something still runs there."""
    last = state.read_state(environment.path)
    if last is None or not last.base or started_at(last.pid) == last.start_time:
        return None
    layers = [store.base / last.base / name for name in last.layers]

    def look() -> bytes:
        from sysenv_ns.lower import glance

        try:
            return glance.look(layers)
        except (OSError, ValueError):  # the session will find out
            return glance.NOTHING

    return look
