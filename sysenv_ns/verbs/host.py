"""host: what root does for environments on the host itself: prepare, release, status; and run, from inside."""

from __future__ import annotations

import os
import pwd

import click

from sysenv_ns import launcher, sudo
from sysenv_ns.console import show, show_json
from sysenv_ns.environment import running
from sysenv_ns.errors import SysenvError
from sysenv_ns.host import survey
from sysenv_ns.kernel import waiting
from sysenv_ns.mapped import boot, client, trees
from sysenv_ns.notices import notice
from sysenv_ns.verbs.context import Context, is_before_a_command, refuse_inside
from sysenv_ns.verbs.options import JSON, examples

_USER = click.option("--user", metavar="USER", help="For this user (name or number); only for root.")


@click.group(
    "host",
    epilog=examples(
        "sysenv-ns host prepare",
        "sysenv-ns host prepare --at-boot",
        "sysenv-ns host release",
        "sysenv-ns host run -- xdg-open report.pdf  # inside an environment",
    ),
)
def command() -> None:
    """Prepare this system for environments; run commands on it."""


@command.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("arguments", metavar="-- COMMAND [ARG...]", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(context: Context, arguments: tuple[str, ...]) -> None:
    """Run a command on the host, from inside an environment: as you, in this directory, with this terminal.

    Only programs that run as you can; `host-commands = false` in config.toml forbids it to them too.
    """
    from sysenv_ns.host_commands import client

    is_before_a_command()
    if not (os.environ.get("SYSENV_NS") or running.inside()):
        client.become(arguments)
    raise click.exceptions.Exit(waiting.end_as(client.run(arguments, context.reporter)))


@command.command("prepare")
@click.option("--at-boot", is_flag=True, help="Also at each boot, by a systemd unit.")
@click.option("--launcher", "only_launcher", is_flag=True, help="Make only the launcher; mount nothing.")
@_USER
def prepare(at_boot: bool, only_launcher: bool, user: str | None) -> None:
    """Mount /usr and /opt read-only for you, with the ids of your environments, until the next boot.

    It uses sudo once. Environments of the driver idmap use these mounts directly; no other user can reach them.
    Root of your environments can then read all files there and use all sockets, including those of root alone.

    Where AppArmor forbids user namespaces to users' programs (Ubuntu), it also makes a launcher that may have them,
    which sysenv-ns then starts itself with. That stays until `release`.
    """
    refuse_inside("prepare the host")
    if at_boot and only_launcher:
        raise click.UsageError("--launcher shows nothing, so nothing is to be shown at each start: leave out --at-boot")
    uid = _number(user)
    if only_launcher or launcher.is_needed():
        _tell("make a launcher that AppArmor allows to create user namespaces")
        show(f"sysenv-ns starts through {client.allow(uid)}")
    if only_launcher:
        return
    _tell(f"mount /usr and /opt read-only in {trees.place_of(uid)}")
    shown = client.prepare(uid, at_boot)
    show("\n".join(trees.described(shown)))


@command.command("release")
@_USER
def release(user: str | None) -> None:
    """Undo `prepare`. Running environments keep the mounts until they are stopped."""
    refuse_inside("do anything on the host")
    uid = _number(user)
    if not client.has_made(uid):
        notice("root has made nothing for you")
        return
    _tell("take back what root has made for you")
    released = client.release(uid)
    notice(f"unmounted {', '.join(released.points)}" if released.points else "nothing was mounted")
    if released.launcher:
        notice(f"removed the launcher {released.launcher}")
    if released.disabled:
        notice("it will not be mounted at the next boot either")
    if released.points:
        notice("running environments keep their mounts until they are stopped (sysenv-ns stop)")


@command.command("status")
@_USER
@JSON
def status(user: str | None, as_json: bool) -> None:
    """Show what is mounted for you."""
    refuse_inside("look at the host")
    uid = _number(user)
    host = survey.host(None, run=False)
    points = {mount.point: mount.root for mount in host.visible if mount.point.startswith(f"{trees.place_of(uid)}/")}
    names = {part.name: part.path for parts in trees.parts(host).values() for part in parts}
    shown = {names.get(os.path.basename(point), root): point for point, root in points.items()}
    if as_json:
        show_json({"mounts": shown, "at_boot": boot.is_enabled(uid), "launcher": launcher.is_installed(uid)})
        return
    lines = trees.described(shown) or ["nothing is mounted for you; to change that: sysenv-ns host prepare"]
    lines += ["also at each boot"] if boot.is_enabled(uid) else []
    lines += ["sysenv-ns starts through a launcher that AppArmor allows"] if launcher.is_installed(uid) else []
    show("\n".join(lines))


def _tell(purpose: str) -> None:
    """Before sudo may ask for a password."""
    if os.geteuid() != 0:
        notice(f"sudo is used to {purpose}")


def _number(user: str | None) -> int:
    """The number of that user. Raises SysenvError."""
    if user is None:  # whoever runs it with sudo wants it for themselves: real root needs none of it
        return (sudo.asker() or 0) if os.geteuid() == 0 else os.getuid()
    try:
        uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise SysenvError(f"there is no user {user}", "give a name or a number") from None
    if os.geteuid() != 0 and uid != os.getuid():
        raise SysenvError("only root can do this for another user", "run it with sudo")
    return uid
