"""What shell and exec have in common: entering an environment, creating a missing or a throwaway one."""

from __future__ import annotations

import click

from sysenv_ns import session
from sysenv_ns.command import Command
from sysenv_ns.environment import ephemeral, running, transaction
from sysenv_ns.environment.description import Environment, Ephemeral
from sysenv_ns.errors import NameTaken, SysenvError
from sysenv_ns.kernel import children
from sysenv_ns.notices import notice
from sysenv_ns.packages import origin
from sysenv_ns.records import replace
from sysenv_ns.verbs.context import Context, is_here, refuse_inside
from sysenv_ns.verbs.create import New, make, meant

ROOT = click.option("--root", "identity", flag_value="root", help="Run as root of the environment.")
ME = click.option("--me", "identity", flag_value="me", help="Run as yourself.")
EPHEMERAL = click.option(
    "--ephemeral", "throwaway", is_flag=True, help="In a throwaway environment, on top of NAME or of none."
)
ON_DISK = click.option("--on-disk", is_flag=True, help="Keep its changes on disk, not in memory.")


def place(throwaway: bool, on_disk: bool, init: bool | None) -> Ephemeral | None:
    """Where to keep the changes of a throwaway environment; None for one that stays."""
    if on_disk and not throwaway:
        raise click.UsageError("--on-disk needs --ephemeral.")
    if throwaway and init:
        raise click.UsageError("--init needs an environment that stays: systemd does not end with the command.")
    if not throwaway:
        return None
    return "disk" if on_disk else "memory"


def enter(context: Context, name: str | None, command: Command, new: New) -> None:
    """Become the command in an environment; without a name, in a new throwaway one. Raises SysenvError."""
    if command.arguments is not None and name is not None and new.throwaway is None and is_here(context.store, name):
        session.run_here(command, name)
    refuse_inside("enter an environment")
    if ephemeral.are_in_the_way(context.store):
        from sysenv_ns import remains

        # Tasks that begin together do not wait for one that tidies up, unless it may be their environment.
        remains.remove(context.store, wait=name is not None and ephemeral.is_name(name))
    if transaction.abandoned(context.store.trash):
        _empty_trash(context)
    if name is not None and new.throwaway is not None:
        environment = _on_top_of(context, name, new.throwaway, new)
    else:
        environment = _load_or_make(context, name, command, new)
        environment.require_root()
        if origin.may_be_drifted(environment):
            from sysenv_ns.packages import drift

            if line := drift.notice(context.store, environment):
                notice(line)
    session.run(context.store, _as_wished(environment, new), command, context.reporter)


def _on_top_of(context: Context, source: str, place: Ephemeral, new: New) -> Environment:
    """A throwaway environment on top of another one, of the shared store if the user's own has none of that name.

    The host's upgrades are told to those who enter the other one, which can be rebased. Raises SysenvError.
    """
    from sysenv_ns.environment import history, shared

    name = ephemeral.new_name(context.store)
    if lender := shared.holding(context.store, source):
        model = lender.load(source)
        _check_choice(model, new)
        origin.check_release(lender, model)
        return shared.on_top(context.store, lender, source, name, place)
    _check_choice(context.store.load(source), new)
    return history.clone(context.store, source, name, place)


def _empty_trash(context: Context) -> None:
    """Delete what interrupted commands have left, in the background: on some disks it takes minutes."""

    from sysenv_ns.manifest import trial

    def empty() -> None:
        children.leave_session(set(), "sysenv-ns-trash")
        trial.end_left(context.store)
        transaction.empty_trash(context.store.trash)

    children.reap(children.start_detached(empty))


def _load_or_make(context: Context, name: str | None, command: Command, new: New) -> Environment:
    if name is None:
        return make(context, ephemeral.new_name(context.store), new)
    if command.identity != "linked":
        name = meant(context, name, new)
    if not context.store.exists(name):
        if command.identity == "linked":
            hint = f"this command is a leftover link: delete it, or create {name} again: sysenv-ns create {name}"
            raise SysenvError(f"there is no environment {name}", hint)
        try:
            environment = make(context, name, new)
        except NameTaken:  # of sessions that begin together one makes it, and the others enter what it has made
            pass
        else:
            notice(f"created the environment {name}")
            return environment
    environment = context.store.load(name)
    _check_choice(environment, new)
    return environment


def _as_wished(environment: Environment, new: New) -> Environment:
    """The environment for this session: without its process 1 on request. Raises SysenvError if that runs."""
    if not environment.init or new.init is not False:
        return environment
    if running.lives(environment):
        raise SysenvError(
            f"{environment.name} runs with systemd as its process 1", f"first: sysenv-ns stop {environment.name}"
        )
    return replace(environment, init=False)


def _check_choice(environment: Environment, new: New) -> None:
    """Raise SysenvError if the options for a new environment are not what an existing one has."""
    kind = environment.id_map.kind if environment.id_map else "auto"
    if new.driver not in (None, "auto", environment.driver) or new.id_map not in (None, "auto", kind):
        raise SysenvError(
            f"{environment.name} already exists, with the driver {environment.driver} and the id map {kind}",
            "driver and id map are chosen when an environment is created: leave the options out, or use another name",
        )
    if new.init and not environment.init:
        raise SysenvError(
            f"{environment.name} already exists, without systemd as its process 1",
            "that is chosen when an environment is created: sysenv-ns create --init ANOTHER-NAME",
        )
