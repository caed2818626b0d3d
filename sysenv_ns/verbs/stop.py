"""stop: ends all processes of an environment."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sysenv_ns import init, status, units
from sysenv_ns.console import show_json
from sysenv_ns.environment import termination
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.notices import notice
from sysenv_ns.text import line, quoted
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples
from sysenv_ns.verbs.status import process_line


@click.command(
    "stop",
    epilog=examples(
        "sysenv-ns stop proj", "sysenv-ns stop --time 0 proj  # at once, with SIGKILL", "sysenv-ns stop --all"
    ),
)
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Stop all environments.")
@click.option("--time", "grace", type=click.FloatRange(0), default=10.0, help="Seconds before SIGKILL (10).")
@JSON
@click.pass_obj
def command(context: Context, name: str | None, everything: bool, grace: float, as_json: bool) -> None:
    """Stop an environment: end its services and all processes.

    Services are stopped first, as their units say (not with --time 0).
    """
    if (name is None) != everything:
        raise click.UsageError("Give either a NAME or --all.")
    refuse_inside("stop an environment")
    if name is not None:
        names = [name]
    else:
        names = [found.name for found in status.all_of(context.store) if found.running and not found.problem]
    results = [_stop(context.store, found, grace) for found in names]
    if as_json:
        show_json({"environments": results})
    if not names:
        notice("no environment was running")


def _stop(store: Store, name: str, grace: float) -> dict[str, Any]:
    """End an environment, and tell what has ended; the same for --json."""
    environment = store.load(name)
    stopped = stop_services(store, name) if grace else []
    # With systemd as its process 1 they end with that.
    powered_off = environment.init and grace > 0 and init.power_off(environment, grace)
    for service in stopped:
        notice(f"stopped {quoted(service)}")
    if powered_off:
        notice(f"powered off {name}")
    ended = termination.end(environment, grace)
    for process in ended:
        notice(f"ended {process_line(process)}")
    if not ended and not stopped and not powered_off:
        notice(f"{name} was not running")
    return {"name": name, "services": stopped, "processes": [asdict(process) for process in ended]}


def stop_services(store: Store, name: str) -> list[str]:
    """Stop the services of an environment, within their units' time-outs; returns their names. Raises SysenvError.

    Those of its own systemd are named only.
    """
    environment = store.load(name)
    environment.require_root()
    try:
        running_ones = [service.name for service in units.of(environment) if service.runs]
    except SysenvError as error:  # that is the environment's doing, which must not keep it running
        notice(f"the services of {name} cannot be listed: {line(error.message)}")
        return []
    if running_ones and not environment.init and (said := units.stop(environment)):
        notice(f"not all services have stopped by themselves: {line(said)}")
    return running_ones
