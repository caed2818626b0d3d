"""freeze and sync of an environment whose host has moved on: what the host did is nobody's wish for the environment."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from .machines import Machine
from .support import describe, succeeded
from .upgrades import ADDED, first, install, later


@pytest.mark.modes("full", more=("single", "root"))
def test_what_the_host_gained_or_lost_is_not_in_it(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    tool = environment.tool
    before = tomllib.loads(succeeded(tool.run("freeze", "test")).stdout)
    install(environment, packages, *ADDED)
    environment.sh("dpkg -P rb-purged")
    frozen = [succeeded(tool.run("freeze", "test")).stdout]
    later(machine, packages)
    assert "drifted" in succeeded(tool.run("list")).stdout
    frozen.append(succeeded(tool.run("freeze", "test")).stdout)
    for text in map(tomllib.loads, frozen):
        assert sorted(set(text["packages"]) - set(before.get("packages", []))) == [
            "rb-added",
            "rb-choice-b",
            "rb-watched",
        ]
        assert text["removed"] == ["rb-purged"]
    file = tool.account.home / "drifted.toml"
    file.write_text(frozen[-1])
    checked = tool.run("sync", "test", str(file), "--check", "--json")
    assert checked.returncode == 0, describe(checked)
    assert json.loads(checked.stdout)["matches"] is True
    file.unlink()
