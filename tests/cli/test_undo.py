"""remove --undo and --purge, list --removed: what is said, asked and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sysenv_ns.environment import removed
from sysenv_ns.environment.removed import Removed
from sysenv_ns.environment.store import Store

from .conftest import Run


@pytest.fixture
def former(environments: Store) -> Removed:
    """The environment `whole`, as it was removed at midnight in UTC."""
    path = environments.removed / "whole@1790000000123456789-1790086400"
    (environments.envs / "whole").rename(path)
    return removed.all_of(environments.removed)[0]


@pytest.mark.parametrize("option", ["--purge", "--base", "--all"])
def test_undo_goes_with_names_only(run: Run, store: Store, option: str) -> None:
    result = run("remove", "--undo", option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert not store.path.exists()


def test_undo(run: Run, former: Removed, environments: Store) -> None:
    result = run("remove", "--undo")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "sysenv-ns: restored whole\n")
    assert environments.names() == ["damaged", "whole"]
    again = run("remove", "--undo", "whole")
    assert (again.exit_code, again.stderr) == (
        1,
        "sysenv-ns: there is no removed environment whole to restore\n"
        "hint: what was removed is deleted after a while, or by --purge\n",
    )


def test_undo_as_json(run: Run, former: Removed) -> None:
    assert json.loads(run("remove", "--undo", "--json", "whole").stdout) == {"version": 1, "restored": ["whole"]}


def test_undo_of_a_name_that_is_taken(run: Run, former: Removed, environments: Store) -> None:
    (environments.envs / "whole").mkdir()
    result = run("remove", "--undo", "whole")
    assert (result.exit_code, "hint: give that one another name first: sysenv-ns rename whole" in result.stderr) == (
        1,
        True,
    )
    assert former.path.is_dir()


def test_list_removed(run: Run, former: Removed, environments: Store) -> None:
    title, line = run("list", "--removed").stdout.splitlines()
    assert title.split() == ["NAME", "REMOVED", "KEPT", "UNTIL"]
    assert line.startswith("whole  2026-09-2")
    (found,) = json.loads(run("list", "--removed", "--json").stdout)["removed"]
    assert found == {
        "name": "whole",
        "removed": "2026-09-21T14:13:20Z",
        "until": "2026-09-22T14:13:20Z",
        "path": str(former.path),
    }
    assert run("list").stdout.count("\n") == 2
    former.path.rename(environments.envs / "whole")
    empty = run("list", "--removed")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "sysenv-ns: there are no removed environments\n")
    assert json.loads(run("list", "--removed", "--json").stdout)["removed"] == []


def test_a_removed_environment_is_told_of(run: Run, former: Removed) -> None:
    for verb in ("status", "remove"):
        result = run(verb, "whole")
        assert (result.exit_code, "hint: to restore it: sysenv-ns remove --undo whole" in result.stderr) == (1, True)


def test_purge_asks_for_what_it_deletes(
    run: Run, former: Removed, environments: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def no(question: str, default: bool = False) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr("sysenv_ns.verbs.remove.can_ask", lambda: True)
    monkeypatch.setattr("sysenv_ns.verbs.remove.asked", no)
    for names in ((), ("whole",), ("damaged", "whole")):
        assert run("remove", "--purge", *names).exit_code == 1
    assert "no environment absent" in run("remove", "--purge", "absent", "whole").stderr
    monkeypatch.setattr("sysenv_ns.verbs.remove.confirmed", no)
    assert run("remove", "--all").exit_code == 1
    kept = asked[0].removeprefix("Delete ").removesuffix(", with everything in it?")
    assert kept.startswith("whole (removed 2026-09-2")
    assert asked[1:] == [
        asked[0],
        f"Delete damaged, {kept}, with everything in it?",
        f"Delete damaged, {kept}, and all bases?",
    ]
    assert former.path.is_dir()
    assert environments.names() == ["damaged"]


def test_what_is_damaged_cannot_be_had_back(run: Run, environments: Store) -> None:
    assert run("remove", "damaged").stderr == "sysenv-ns: removed damaged\n"
    assert run("list", "--removed").stdout == ""


@pytest.mark.parametrize("value", ["-1", "0.5", "true", '"24"', "10000000"])
def test_a_wrong_time(
    run: Run, environments: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "sysenv-ns").mkdir()
    (tmp_path / "sysenv-ns" / "config.toml").write_text(f"keep-removed = {value}\n")
    result = run("remove", "damaged")
    assert (result.exit_code, "keep-removed cannot be" in result.stderr) == (1, True)
    assert environments.names() == ["damaged", "whole"]
