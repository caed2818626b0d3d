"""Makes the links again that an environment had when it was removed, once it is restored; removes none.

The record of them has stayed in its directory, but not what was in their files, which is made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from sysenv_ns.environment import links
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.links import Shown
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.home import programs, services
from sysenv_ns.reporter import Reporter
from sysenv_ns.sudo import Caller


def relink(
    store: Store, environment: Environment, reporter: Reporter, caller: Caller | None
) -> tuple[list[Shown], list[SysenvError]]:
    """The links that there are again, and why others could not be made. Raises SysenvError."""
    name, known = environment.name, links.read(environment.path)
    units = [link.target for link in known if link.is_unit]
    plain = [link.target for link in known if not link.is_unit and len(link.files) == 1]
    listed = [link.target for link in known if not link.is_unit and len(link.files) > 1]

    def linked(targets: Sequence[str], with_entries: bool) -> tuple[Shown, ...]:
        return programs.link(store, name, targets, with_entries, reporter, caller).links

    def served(targets: Sequence[str]) -> tuple[Shown, ...]:
        made = services.link(store, name, targets, reporter, caller)
        services.tell_manager(os.environ)
        return made

    makers: tuple[tuple[list[str], Callable[[Sequence[str]], tuple[Shown, ...]]], ...] = (
        (plain, lambda targets: linked(targets, False)),
        (listed, lambda targets: linked(targets, True)),  # with their menu entries
        (units, served),
    )
    made: list[Shown] = []
    failures: list[SysenvError] = []
    for wanted, make in makers:
        try:
            made += make(wanted) if wanted else ()
        except SysenvError:
            for target in wanted:  # one that cannot be made is in no other's way
                try:
                    made += make([target])
                except SysenvError as error:
                    failures.append(error)
    return made, failures
