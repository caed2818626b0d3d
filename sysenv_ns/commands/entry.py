"""The commands that make and enter environments; like all of the command line they parse and call."""

from __future__ import annotations

from typing import Any

import click

from sysenv_ns import sudo
from sysenv_ns.commands.console import DRIVER, ID_MAP, NAME, Context, notice, refuse_inside
from sysenv_ns.commands.making import New, make
from sysenv_ns.errors import SysenvError
from sysenv_ns.packages import origin
from sysenv_ns.session import Command
from sysenv_ns.store import Environment, Ephemeral, check_name

_ROOT = click.option("--root", "identity", flag_value="root", help="Run as root of the environment.")
_ME = click.option("--me", "identity", flag_value="me", help="Run as yourself.")
_LINKED = click.option("--linked", "identity", flag_value="linked", hidden=True, help="For what link makes.")
_EPHEMERAL = click.option("--ephemeral", is_flag=True, help="In a throwaway environment, on top of NAME or of none.")
_ON_DISK = click.option("--on-disk", is_flag=True, help="Its changes on the disk, not in memory.")


@click.command()
@NAME
@DRIVER
@ID_MAP
@click.pass_obj
def create(context: Context, name: str, driver: str | None, id_map: str | None) -> None:
    """Make an environment."""
    refuse_inside("create")
    make(context, check_name(name), New(driver, id_map))
    notice(f"created {name}; enter it with: sysenv-ns shell {name}")


@click.command()
@_ROOT
@_ME
@DRIVER
@ID_MAP
@_EPHEMERAL
@_ON_DISK
@click.argument("name", required=False)
@click.pass_obj
def shell(
    context: Context,
    name: str | None,
    identity: Any,
    driver: str | None,
    id_map: str | None,
    ephemeral: bool,
    on_disk: bool,
) -> None:
    """Start a shell in an environment. One that does not exist is made.

    Without a NAME it is that of the sysenv.toml of this directory, or of the nearest one above (see sync).
    """
    new = New(driver, id_map, _throwaway(ephemeral, on_disk))
    if name is None and not ephemeral:
        from sysenv_ns.commands import manifest

        name = manifest.environment_here(context, new)
    _enter(context, name, Command(None, identity, context.caller), new)


class _Exec(click.Command):
    """With --ephemeral there may be no NAME before the --; then it is None."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" not in args:
            return super().parse_args(ctx, args)
        before = args[: args.index("--")]
        options, _, _ = self.make_parser(ctx).parse_args(list(before))
        if options.get("ephemeral") is not True or isinstance(options.get("name"), str):
            return super().parse_args(ctx, args)
        left = super().parse_args(ctx, [*before, "--", "", *args[len(before) + 1 :]])
        ctx.params["name"] = None
        return left


@click.command(name="exec", cls=_Exec, context_settings={"allow_interspersed_args": False})
@_ROOT
@_ME
@_LINKED
@DRIVER
@ID_MAP
@_EPHEMERAL
@_ON_DISK
@NAME
@click.argument("arguments", metavar="-- COMMAND [ARG...]", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(
    context: Context,
    name: str | None,
    arguments: tuple[str, ...],
    identity: Any,
    driver: str | None,
    id_map: str | None,
    ephemeral: bool,
    on_disk: bool,
) -> None:
    """Run one command in an environment. One that does not exist is made; root runs it unless --me is given."""
    new = New(driver, id_map, _throwaway(ephemeral, on_disk))
    if arguments[0] == "--" and name is not None:
        arguments = arguments[1:]
    if not arguments:
        raise click.UsageError("Missing argument 'COMMAND'.")
    _enter(context, name, Command(arguments, identity, context.caller), new)


def _throwaway(ephemeral: bool, on_disk: bool) -> Ephemeral | None:
    """Where the changes of a throwaway environment shall be; None for one that stays."""
    if on_disk and not ephemeral:
        raise click.UsageError("--on-disk is for --ephemeral.")
    if not ephemeral:
        return None
    return "disk" if on_disk else "memory"


def _enter(context: Context, name: str | None, command: Command, new: New) -> None:
    from sysenv_ns import session
    from sysenv_ns.upper import ephemeral

    refuse_inside("enter an environment")
    if any(ephemeral.ended(context.store)):
        from sysenv_ns import lifecycle

        lifecycle.remove_ended(context.store)
    environment = _load_or_make(context, name, command, new)
    sudo.require(environment)
    if origin.may_be_drifted(environment):
        from sysenv_ns.packages import drift

        if line := drift.notice(context.store, environment):
            notice(line)
    if name is not None and new.throwaway is not None:
        from sysenv_ns.snapshots import history

        environment = history.clone(context.store, name, ephemeral.new_name(context.store), new.throwaway)
    session.run(context.store, environment, command, context.reporter)


def _load_or_make(context: Context, name: str | None, command: Command, new: New) -> Environment:
    if name is None:
        from sysenv_ns.upper import ephemeral

        return make(context, ephemeral.new_name(context.store), new)
    if new.throwaway is None and not context.store.exists(name):
        if command.identity == "linked":
            hint = f"this command is a link that was left: delete it, or make {name} again: sysenv-ns create {name}"
            raise SysenvError(f"there is no environment {name}", hint)
        environment = make(context, name, new)
        notice(f"created the environment {name}")
        return environment
    environment = context.store.load(name)
    kind = environment.id_map.kind if environment.id_map else "auto"
    if new.driver not in (None, "auto", environment.driver) or new.id_map not in (None, "auto", kind):
        raise SysenvError(
            f"{name} exists already, with the driver {environment.driver} and the id map {kind}",
            "driver and id map are chosen when an environment is made: leave the options out, or use another name",
        )
    return environment


COMMANDS = (create, shell, exec_)
