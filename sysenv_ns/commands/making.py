"""How the command line makes an environment: by its options, and for what they leave open by the user's settings."""

from __future__ import annotations

from dataclasses import dataclass

from sysenv_ns.commands.console import Context
from sysenv_ns.store import Environment, Ephemeral


@dataclass(frozen=True)
class New:
    """How an environment is made that does not exist."""

    driver: str | None
    id_map: str | None
    throwaway: Ephemeral | None = None


def chosen(context: Context, new: New) -> tuple[str, str]:
    """The driver and the id map that are asked for. Raises SysenvError."""
    from sysenv_ns.host import config

    configured = config.of_user(context.store)
    # Its id map goes with its driver: another one may have none.
    return new.driver or configured.driver, new.id_map or (configured.id_map if new.driver is None else "auto")


def make(context: Context, name: str, new: New) -> Environment:
    """A new environment. Raises SysenvError."""
    from sysenv_ns import lifecycle

    return lifecycle.create(context.store, name, *chosen(context, new), context.reporter, new.throwaway)
