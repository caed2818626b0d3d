"""exec: one command in an environment."""

from __future__ import annotations

import click

from sysenv_ns.command import Asked, Command
from sysenv_ns.verbs import entry
from sysenv_ns.verbs.context import Context
from sysenv_ns.verbs.create import New
from sysenv_ns.verbs.options import CREATE, DRIVER, ID_MAP, INIT, NAME, examples


class _Exec(click.Command):
    """With --ephemeral NAME may be missing before the --; then it is None."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" not in args:
            return super().parse_args(ctx, args)
        before = args[: args.index("--")]
        options, _, _ = self.make_parser(ctx).parse_args(list(before))
        if options.get("throwaway") is not True or isinstance(options.get("name"), str):
            return super().parse_args(ctx, args)
        left = super().parse_args(ctx, [*before, "--", "", *args[len(before) + 1 :]])
        ctx.params["name"] = None
        return left


@click.command(
    "exec",
    cls=_Exec,
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "sysenv-ns exec proj -- apt-get install -y hello  # as its root",
        "sysenv-ns exec --me proj -- make check  # as you",
        "sysenv-ns exec --env CC=clang --workdir /tmp proj -- make",
    ),
)
@entry.ROOT
@entry.ME
@click.option("--linked", "identity", flag_value="linked", hidden=True, help="For what link makes.")
@DRIVER
@ID_MAP
@INIT
@CREATE
@entry.EPHEMERAL
@entry.ON_DISK
@click.option("--env", "pairs", metavar="NAME=VALUE", multiple=True, help="Set a variable for the command; repeatable.")
@click.option("--workdir", metavar="DIR", default="", help="Run it in this directory of the environment.")
@NAME
@click.argument("arguments", metavar="-- COMMAND [ARG...]", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def command(
    context: Context,
    name: str | None,
    arguments: tuple[str, ...],
    identity: Asked | None,
    driver: str | None,
    id_map: str | None,
    init: bool | None,
    sure: bool,
    throwaway: bool,
    on_disk: bool,
    pairs: tuple[str, ...],
    workdir: str,
) -> None:
    """Run a command in an environment. Its root runs it, or you with --me; a missing environment is created.

    The network is the host's: a server listens on a port below 1024 only if the host lets every user do that, with
    `sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80`.
    """
    new = New(driver, id_map, entry.place(throwaway, on_disk, init), sure, init)
    if arguments[0] == "--" and name is not None:
        arguments = arguments[1:]
    elif name is not None and arguments[0].startswith("-"):
        raise click.UsageError(f"Options come before NAME: sysenv-ns exec {arguments[0]} {name} -- COMMAND")
    if not arguments:
        raise click.UsageError("Missing argument 'COMMAND'.")
    wanted = Command(arguments, identity, context.caller, tuple(map(_variable, pairs)), workdir)
    entry.enter(context, name, wanted, new)


def _variable(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not name or not equals or "\0" in pair:
        raise click.UsageError(f"--env takes NAME=VALUE, not {pair!r}.")
    if name == "SYSENV_NS":
        raise click.UsageError("SYSENV_NS is the name of the environment, and cannot be set.")
    return name, value
