"""Makes the links again that an environment had when it was removed, once it is restored; removes none.

The record of them has stayed in its directory, but not what was in their files, which is made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sysenv_ns.environment import links
from sysenv_ns.environment.links import Shown
from sysenv_ns.environment.store import Environment, Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.home import programs, services
from sysenv_ns.reporter import Reporter
from sysenv_ns.sudo import Caller


def relink(
    store: Store, environment: Environment, reporter: Reporter, caller: Caller | None
) -> tuple[list[Shown], list[SysenvError]]:
    """The links that there are again, and why others could not be made. Raises SysenvError."""
    name, known = environment.name, links.read(environment.path)
    units = [link.target for link in known if not link.target.startswith("/")]
    plain = [link.target for link in known if link.target not in units and len(link.files) == 1]
    listed = [link.target for link in known if link.target not in units and len(link.files) > 1]

    def services_made() -> tuple[Shown, ...]:
        made = services.link(store, name, units, reporter, caller)
        services.tell_manager(os.environ)
        return made

    attempts: tuple[tuple[list[str], Callable[[], tuple[Shown, ...]]], ...] = (
        (plain, lambda: programs.link(store, name, plain, False, reporter, caller).links),
        (listed, lambda: programs.link(store, name, listed, True, reporter, caller).links),  # with their menu entries
        (units, services_made),
    )
    made: list[Shown] = []
    failures: list[SysenvError] = []
    for wanted, make in attempts:
        try:
            made += make() if wanted else ()
        except SysenvError as error:
            failures.append(error)
    return made, failures
