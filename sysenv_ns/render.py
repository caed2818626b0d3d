"""Results to text or JSON; fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sysenv_ns.doctor import Diagnosis
from sysenv_ns.home.links import Shown
from sysenv_ns.lifecycle import Status
from sysenv_ns.lower.upkeep import Refreshed
from sysenv_ns.packages.drift import Drift
from sysenv_ns.rebase.rebasing import Result
from sysenv_ns.running import Process
from sysenv_ns.snapshots.history import History

_UNITS = ("B", "kB", "MB", "GB", "TB")

_COMMAND_WIDTH = 80


def table(rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns; the last one is not padded."""
    rows = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def listing(statuses: Sequence[Status]) -> str:
    """The table of `list`."""
    rows = [("NAME", "STATE", "DRIVER", "IDS", "CREATED")]
    rows += [(s.name, _marked(s), s.driver or "-", s.id_map or "-", _date(s.created)) for s in statuses]
    return table(rows)


def status(result: Status) -> str:
    """The lines of `status`."""
    rows = [
        ("name:", result.name),
        ("state:", _state(result)),
        ("driver:", result.driver or "-"),
        ("id map:", result.id_map or "-"),
        ("created:", _date(result.created)),
        ("changes:", _changes(result)),
    ]
    if result.snapshots:
        rows.append(("snapshots:", f"{', '.join(result.snapshots)}; more: sysenv-ns history {result.name}"))
    if result.problem:
        rows.append(("problem:", result.problem))
    if result.host_changed:
        rows.append(("host:", f"changed since it was started; to see the new files: sysenv-ns stop {result.name}"))
    rows += _drift(result.name, result.drift) if result.drift else []
    rows += [("link:", link(found)) for found in result.links]
    rows += [("process:", process_line(process)) for process in result.processes]
    return table(rows)


def _changes(result: Status) -> str:
    where = "in memory" if result.ephemeral == "memory" else f"{result.path}/upper"
    return f"{where}, gone with its last process" if result.ephemeral else where


def history(result: History) -> str:
    """The table of `history`."""
    rows = [("SNAPSHOT", "CREATED", "SIZE", "")]
    for found in result.snapshots:
        notes = ["now"] * found.current + ["kept by a rollback"] * found.automatic
        rows.append((found.label, _date(found.created), size(found.size), ", ".join(notes)))
    return table([*rows, ("(since)", "", size(result.size), "")])


def size(number: int) -> str:
    """Bytes as people read them."""
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit and value < 100 else f"{value:.0f} {_UNITS[unit]}"


def link(shown: Shown) -> str:
    """A link in one line."""
    return f"{shown.path}{'' if shown.intact else ' (deleted or replaced since)'} -> {shown.target}"


def diagnosis(result: Diagnosis) -> str:
    """The table of `doctor` with a remedy below what does not work."""
    lines = []
    width = max(len(finding.subject) for finding in result.findings)
    for finding in result.findings:
        lines.append(f"{finding.subject.ljust(width)}  {'works' if finding.works else 'no: ' + finding.detail}")
        if finding.remedy:
            lines.append(f"{' ' * width}  -> {finding.remedy}")
    if result.driver is None:
        lines.append("No environment can be run here.")
    else:
        ids = f" and the id map {result.id_map}" if result.id_map else ""
        lines.append(f"New environments use the driver {result.driver}{ids}.")
    return "\n".join(lines)


def refreshed(result: Refreshed) -> str:
    """What refresh has done."""
    if result == Refreshed():
        return "the base is up to date"
    files = _count(result.files, "file", "files")
    return f"refreshed {files} in {_count(result.directories, 'directory', 'directories')}"


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def process_line(process: Process) -> str:
    """A process in one line of bearable length."""
    command = " ".join(process.command.split())
    return f"{process.pid} {command if len(command) <= _COMMAND_WIDTH else command[: _COMMAND_WIDTH - 3] + '...'}"


def status_json(result: Status) -> dict[str, Any]:
    """A status for --json."""
    return {**asdict(result), "running": result.running}


def as_json(data: object) -> str:
    """Indented JSON."""
    return json.dumps(data, indent=2)


def _drift(name: str, drift: Drift) -> list[tuple[str, str]]:
    if not drift.known:
        return [("drift:", f"unknown; see sysenv-ns rebase {name}")]
    rows = []
    if drift.is_there:
        text = f"{len(drift.changed)} packages of this system have changed, {len(drift.held)} of them here too"
        rows.append(("drift:", f"{text}; carry it over with: sysenv-ns rebase {name}"))
    for title, found in (("both changed:", drift.files), ("not mergeable:", drift.unmerged)):
        rows += [(title, path) for path in found]
    return rows


def rebase(result: Result) -> str:
    """What a rebase does, in lines: packages, what the user should know, and, before it is done, each operation."""
    rows = [
        (d["key"], "the host's" if d["side"] == "host" else "stays", d["why"], _versions(d)) for d in result.packages
    ]
    lines = [table([("PACKAGE", "VERSION", "WHY", ""), *rows])] if rows else []
    lines += [f"note: {note}" for note in result.notes]
    if not result.operations:
        lines.append("There is nothing to do.")
    if not result.done:
        lines += result.operations
    return "\n".join(lines)


def _versions(decision: dict[str, str]) -> str:
    own = f" (here {decision['own']})" if decision["own"] not in (decision["old"], "") else ""
    if decision["old"] == decision["new"]:
        return f"{decision['new']}{own}"
    return f"{decision['old'] or '-'} -> {decision['new'] or '-'}{own}"


def _marked(result: Status) -> str:
    drifted = result.drift is not None and result.drift.is_there
    return f"{_state(result)}, drifted" if drifted else _state(result)


def _state(result: Status) -> str:
    if result.problem:
        return "damaged"
    return f"running ({len(result.processes)})" if result.running else "stopped"


def _date(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else "-"
    except (ValueError, OverflowError):
        return "-"
