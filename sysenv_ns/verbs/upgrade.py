"""upgrade: an environment's own packages to the versions that its repositories have now."""

from __future__ import annotations

import subprocess
import sys

import click

from sysenv_ns import status
from sysenv_ns.command import Command
from sysenv_ns.environment.store import Store, check_name
from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest import inspection
from sysenv_ns.notices import notice
from sysenv_ns.verbs import entry
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.create import New
from sysenv_ns.verbs.options import examples

# apt-get takes what it is to install for asked for; those that are there because others need them stay so.
_SCRIPT = """
answer=$1
shift
apt-get update
automatic=$(apt-mark showauto "$@")
apt-get install --only-upgrade $answer "$@"
[ -z "$automatic" ] || apt-mark auto $automatic >/dev/null
"""


@click.command(
    "upgrade", epilog=examples("sysenv-ns upgrade proj", "sysenv-ns upgrade --all --yes  # one after the other")
)
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All environments.")
@click.option("--yes", is_flag=True, help="Answer yes to apt's questions.")
@click.pass_obj
def command(context: Context, name: str | None, everything: bool, yes: bool) -> None:
    """Upgrade the packages that an environment has of its own.

    apt does it, by the environment's repositories. Packages of this system are as this system has them: rebase brings
    their upgrades.
    """
    if (name is None) != everything:
        raise click.UsageError("Give either a NAME or --all.")
    refuse_inside("upgrade an environment")
    if name is not None:
        _upgrade(context, check_name(name), yes)
        return
    names = [found.name for found in status.all_of(context.store) if not (found.problem or found.ephemeral)]
    failed = [found for found in names if not _upgraded_by_itself(found, yes)]
    if failed:
        raise SysenvError(
            f"not upgraded: {', '.join(failed)}", "see apt's messages above; try again: sysenv-ns upgrade NAME"
        )


def _upgrade(context: Context, name: str, yes: bool) -> None:
    """Become apt-get, or tell that there is nothing to upgrade. Raises SysenvError."""
    names = own_packages(context.store, name)
    if not names:
        notice(f"{name} has no packages of its own")
        return
    arguments = ("sh", "-ec", _SCRIPT, "sh", "--yes" if yes else "", *names)
    entry.enter(context, name, Command(arguments, "root", context.caller), New(None, None))


def own_packages(store: Store, name: str) -> list[str]:
    """What an environment has installed, or has in another version than the system that it was made from."""
    environment = store.load(name)
    environment.require_root()
    with store.reading().lock(name):
        found = inspection.read(store, store.load(name))
    host = found.host.packages
    own = found.own.packages
    return sorted(key for key in own if key not in host or host[key].version != own[key].version)


def _upgraded_by_itself(name: str, yes: bool) -> bool:
    """Upgrade one in a process of its own, which becomes apt-get."""
    notice(f"upgrading {name}")
    python = [sys.executable, *(("-I",) if sys.flags.isolated else ("-E", "-P")), "-m", "sysenv_ns"]
    return subprocess.run([*python, "upgrade", *(["--yes"] if yes else []), name], check=False).returncode == 0
