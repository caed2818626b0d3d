"""create; and how other verbs create an environment that they need."""

from __future__ import annotations

from dataclasses import dataclass

import click

from sysenv_ns.console import asked, show_json
from sysenv_ns.environment.description import Environment, Ephemeral
from sysenv_ns.environment.store import check_name
from sysenv_ns.errors import SysenvError
from sysenv_ns.notices import can_ask, notice
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import DRIVER, ID_MAP, JSON, NAME, examples


@dataclass(frozen=True)
class New:
    """The options for an environment that does not exist yet."""

    driver: str | None
    id_map: str | None
    throwaway: Ephemeral | None = None
    sure: bool = False  # that it is a new one, however much its name is like another one's
    init: bool | None = None  # whether systemd is its process 1; False is also a wish for this session alone


@click.command(
    "create",
    epilog=examples(
        "sysenv-ns create proj",
        "sysenv-ns create proj --driver reflink  # see doctor for what works here",
        "sysenv-ns create --init proj  # with systemd inside",
    ),
)
@NAME
@DRIVER
@ID_MAP
@click.option("--init", is_flag=True, help="With systemd as its process 1 (needs the full id map).")
@JSON
@click.pass_obj
def command(context: Context, name: str, driver: str | None, id_map: str | None, init: bool, as_json: bool) -> None:
    """Create an environment."""
    refuse_inside("create an environment")
    make(context, check_name(name), New(driver, id_map, init=init))
    if as_json:
        from sysenv_ns import status
        from sysenv_ns.verbs.status import as_data

        show_json(as_data(status.of(context.store, name)))
    from sysenv_ns import creation

    notice(creation.created(name))


def make(context: Context, name: str, new: New) -> Environment:
    """A new environment. Raises SysenvError."""
    from sysenv_ns import creation

    return creation.create(context.store, name, *chosen(context, new), context.reporter, new.throwaway, bool(new.init))


def meant(context: Context, name: str, new: New) -> str:
    """The name, or a very similar one of an existing environment, if the user chooses that. Raises SysenvError."""
    if new.sure or context.store.exists(name):
        return name
    from sysenv_ns import similar

    other = similar.meant(name, context.store.all_names())
    if other is None:
        return name
    if not can_ask():
        raise SysenvError(
            f"there is no environment {name}; did you mean {other}?",
            f"to create a new environment {name}, add --create",
        )
    if asked(f"There is no environment {name}. Did you mean {other}?", default=True):
        return other
    if asked(f"Create {name}?"):
        return name
    raise SysenvError("nothing was done")


def chosen(context: Context, new: New) -> tuple[str, str]:
    """The driver and the id map: those of the options, else of the user's settings. Raises SysenvError."""
    from sysenv_ns.environment import config

    configured = config.of_user(context.store)
    # Its id map goes with its driver: another one may have none.
    return new.driver or configured.driver, new.id_map or (configured.id_map if new.driver is None else "auto")
