"""What programs read: the documented keys of --json, errors as JSON, times, and nothing else with --quiet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from sysenv_ns import verbs
from sysenv_ns.archive.export import Exported
from sysenv_ns.drivers.diagnosis import Diagnosis, Finding
from sysenv_ns.environment.description import Snapshot
from sysenv_ns.environment.history import Frozen, History, Rollback
from sysenv_ns.environment.links import Shown
from sysenv_ns.environment.store import Store
from sysenv_ns.home.programs import Which
from sysenv_ns.lower.upkeep import Refreshed
from sysenv_ns.oci.image import Image
from sysenv_ns.rebase.rebase import PackageChoice, RebaseResult
from sysenv_ns.registry.push import Pushed
from sysenv_ns.service import Service
from sysenv_ns.status import Status
from sysenv_ns.text import timestamp

from .conftest import Run

_TEXT = (Path(__file__).resolve().parents[2] / "docs" / "scripts.md").read_text()
_SHOWN: dict[str, tuple[type[Any], ...]] = {
    "status": (Status, Service),
    "refresh": (Refreshed,),
    "doctor": (Diagnosis, Finding),
    "history": (History, Frozen),
    "snapshot": (Snapshot,),
    "rollback": (Rollback,),
    "export": (Exported, Image),
    "push": (Pushed,),
    "rebase": (RebaseResult, PackageChoice),
    "which": (Which,),
    "link": (Shown,),
}


def _rows() -> Iterator[tuple[str, str]]:
    section = _TEXT.partition("\n## JSON\n")[2].partition("\n## ")[0].partition("\n|---|---|\n")[2]
    for row in section.splitlines():
        names, _, keys = row.strip("| ").partition(" | ")
        yield from ((name, keys) for name in re.findall(r"`([a-z]+)`", names.partition(" (")[0]))


_KEYS = dict(_rows())


def _has_json(command: click.Command) -> bool:
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    return any(parameter.name == "as_json" for found in commands for parameter in found.params)


def test_every_verb_with_json_is_documented() -> None:
    assert {name for name in verbs.NAMES if _has_json(verbs.load(name))} == set(_KEYS)


@pytest.mark.parametrize("verb", _SHOWN)
def test_the_keys_are_documented(verb: str) -> None:
    documented = set(re.findall(r"`([a-z_]+)`", _KEYS[verb]))
    assert {field.name for shown in _SHOWN[verb] for field in fields(shown)} - documented == set()


@pytest.mark.parametrize("arguments", [("list",), ("status", "whole"), ("history", "whole"), ("unlink", "whole")])
def test_what_is_printed_has_a_version(run: Run, environments: Store, arguments: tuple[str, ...]) -> None:
    data = json.loads(run(*arguments, "--json").stdout)
    assert data.pop("version") == 1
    documented = set(re.findall(r"`([a-z_]+)`", _KEYS[arguments[0]]))
    assert set(data) <= documented


def test_what_has_been_done_is_printed(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysenv_ns.environment.description.Environment.require_root", lambda environment: None)
    stopped = json.loads(run("stop", "--json", "whole").stdout)
    assert stopped == {"version": 1, "environments": [{"name": "whole", "services": [], "processes": []}]}
    renamed = json.loads(run("rename", "--json", "whole", "better").stdout)
    assert (renamed["version"], renamed["name"]) == (1, "better")
    removed = json.loads(run("remove", "--json", "--yes", "damaged").stdout)
    assert removed == {"version": 1, "removed": ["damaged"], "bases": {}}


def test_a_refresh_of_nothing_is_printed(run: Run, store: Store) -> None:
    assert json.loads(run("refresh", "--json").stdout) == {"version": 1, "files": 0, "directories": 0}


@pytest.mark.parametrize("arguments", [("status", "absent"), ("history", "damaged"), ("remove", "absent", "--yes")])
def test_an_error_is_json_where_that_is_asked_for(run: Run, environments: Store, arguments: tuple[str, ...]) -> None:
    text, result = run(*arguments), run(*arguments, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert json.loads(result.stderr)["version"] == 1
    assert text.stderr == f"sysenv-ns: {error['message']}\nhint: {error['hint']}\n"
    assert error["status"] == 1


def test_a_comparison_that_fails_says_so_in_its_status(run: Run, environments: Store) -> None:
    result = run("diff", "--exit-code", "--json", "absent")
    assert (result.exit_code, json.loads(result.stderr)["error"]["status"]) == (2, 2)


def test_quiet(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSENV_NS_QUIET", "")
    quiet = run("--quiet", "unlink", "whole")
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    assert "no environment absent" in run("-q", "status", "absent").stderr
    assert run("-q", "list").stdout
    monkeypatch.setenv("SYSENV_NS_QUIET", "")
    assert run("unlink", "whole").stderr == "sysenv-ns: whole has no links\n"
    monkeypatch.setenv("SYSENV_NS_QUIET", "1")
    assert run("unlink", "whole").stderr == ""


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(1795939200, "2026-11-29T08:00:00Z"), (1795939200.9, "2026-11-29T08:00:00Z"), (0, None), (1e30, None)],
)
def test_times(seconds: float, shown: str | None) -> None:
    assert timestamp(seconds) == shown


def test_colours_are_for_terminals(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for arguments in (("list",), ("status", "damaged")):
        plain = run(*arguments).stdout
        assert "\x1b" not in plain
        with monkeypatch.context() as patch:
            patch.setattr("sysenv_ns.console.on_terminal", lambda: True)
            shown = run(*arguments).stdout
            assert "\x1b[31m" in shown
            assert click.unstyle(shown) == plain
            patch.setenv("NO_COLOR", "1")
            assert run(*arguments).stdout == plain
