"""status: one environment, with its processes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sysenv_ns import status
from sysenv_ns.console import show_json, show_lines
from sysenv_ns.kernel.processes import Process
from sysenv_ns.listing import state
from sysenv_ns.packages.drift import Drift
from sysenv_ns.service import Service
from sysenv_ns.status import Status
from sysenv_ns.text import date, line, quoted, size, table, timestamp
from sysenv_ns.verbs import link
from sysenv_ns.verbs.context import Context
from sysenv_ns.verbs.options import JSON, NAME, examples

_COMMAND_WIDTH = 80
_COLOURS = {"problem:": "red", **dict.fromkeys(("host:", "drift:", "both changed:", "not mergeable:"), "yellow")}


@click.command("status", epilog=examples("sysenv-ns status proj", "sysenv-ns status --json proj"))
@NAME
@JSON
@click.pass_obj
def command(context: Context, name: str, as_json: bool) -> None:
    """Show one environment and its processes."""
    result = status.of(context.store, name)
    if as_json:
        show_json(as_data(result))
    else:
        colours = (_colour(result, row) for row in _rows(result))
        show_lines(zip(text(result).splitlines(), colours, strict=True), context.caller)


def as_data(result: Status) -> dict[str, Any]:
    """For --json."""
    services = [{**asdict(found), "since": timestamp(found.since)} for found in result.services]
    times = {"created": timestamp(result.created), "services": services}
    return {**asdict(result), **times, "running": result.running}


def text(result: Status) -> str:
    """Everything, in lines."""
    return table(_rows(result))


def _rows(result: Status) -> list[tuple[str, str]]:
    rows = [
        ("name:", result.name),
        ("state:", state(result)),
        ("driver:", result.driver or "-"),
        ("id map:", result.id_map or "-"),
        ("created:", date(result.created)),
        ("changes:", _changes(result)),
    ]
    if result.init:
        rows.append(("init:", "systemd is its process 1"))
    if result.snapshots:
        rows.append(("snapshots:", f"{', '.join(result.snapshots)}; more: sysenv-ns history {result.name}"))
    if result.problem:
        rows.append(("problem:", result.problem))
    if result.unseen:
        rows.append(("processes:", "cannot be seen from inside another environment"))
    if result.host_changed:
        rows.append(("host:", f"changed since it was started; to see the new files: sysenv-ns stop {result.name}"))
    rows += _drift(result.name, result.drift) if result.drift else []
    rows += [("link:", link.text(found)) for found in result.links]
    for service in result.services:
        rows += [("service:", _service(service)), *(("", line(said)) for said in service.log)]
    rows += [("process:", process_line(process)) for process in result.processes]
    return rows


def _colour(result: Status, row: tuple[str, str]) -> str:
    """The colour of a line."""
    if row[0] == "state:":
        return "red" if result.problem else "green" if result.running else ""
    return _COLOURS.get(row[0], "")


def process_line(process: Process) -> str:
    """A process in one line of limited length."""
    said = " ".join(process.command.split())
    return f"{process.pid} {quoted(said if len(said) <= _COMMAND_WIDTH else said[: _COMMAND_WIDTH - 3] + '...')}"


def _service(service: Service) -> str:
    """A service in one line, followed by its last output."""
    words = [f"{quoted(service.name)} {quoted(service.active)} ({quoted(service.sub)})"]
    if service.since:
        words.append(f"since {date(service.since)}")
    if service.main:
        words.append(f"main process {service.main}")
    if service.memory:
        words.append(size(service.memory))
    return ", ".join(words)


def _changes(result: Status) -> str:
    where = "in memory" if result.ephemeral == "memory" else f"{result.path}/upper"
    return f"{where}, gone with its last process" if result.ephemeral else where


def _drift(name: str, drift: Drift) -> list[tuple[str, str]]:
    if not drift.known:
        return [("drift:", f"unknown; see sysenv-ns rebase {name}")]
    rows = []
    if drift.is_there:
        amount = f"{len(drift.changed)} packages of this system have changed, {len(drift.held)} of them here too"
        rows.append(("drift:", f"{amount}; to catch up: sysenv-ns rebase {name}"))
    for title, found in (("both changed:", drift.files), ("not mergeable:", drift.unmerged)):
        rows += [(title, quoted(path)) for path in found]
    return rows
