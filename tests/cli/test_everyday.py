"""What somebody meets every day: questions before a removal, all at once, statuses of interrupts and comparisons."""

from __future__ import annotations

import json
import os
from typing import NoReturn

import pytest

from sysenv_ns import quick
from sysenv_ns.command import Command
from sysenv_ns.environment.store import Store

from .conftest import Run


def _interrupt(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


def test_remove_asks_on_a_terminal(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no(question: str, default: bool = False) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr("sysenv_ns.verbs.remove.can_ask", lambda: True)
    monkeypatch.setattr("sysenv_ns.verbs.remove.asked", no)
    result = run("remove", "damaged")
    assert (result.exit_code, asked) == (1, ["Delete damaged, with everything in it?"])
    assert "nothing was done" in result.stderr
    assert environments.names() == ["damaged", "whole"]
    assert "no environment absent" in run("remove", "absent").stderr
    assert len(asked) == 1
    assert run("remove", "--yes", "damaged").exit_code == 0
    assert environments.names() == ["whole"]


def test_stop_takes_a_name_or_all(run: Run, environments: Store) -> None:
    assert run("stop").exit_code == run("stop", "--all", "whole").exit_code == 2
    assert run("stop", "--all").stderr == "sysenv-ns: no environment was running\n"


@pytest.mark.parametrize("option", ["--me", "--root", "-x"])
def test_options_of_exec_behind_the_name(run: Run, environments: Store, option: str) -> None:
    """They are no commands; what is called so can be run behind a --."""
    result = run("exec", "whole", option, "--", "id")
    assert result.exit_code == 2
    assert f"Options come before NAME: sysenv-ns exec {option} whole -- COMMAND" in result.stderr
    assert quick.parsed(["exec", "whole", option, "--", "id"]) is None
    assert quick.parsed(["exec", "whole", "--", option]) == quick.PlainCall("whole", None, (option,))


def test_upgrade_takes_a_name_or_all(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("upgrade").exit_code == run("upgrade", "--all", "whole").exit_code == 2
    upgraded: list[tuple[str, bool]] = []

    def upgrade(name: str, yes: bool) -> bool:
        upgraded.append((name, yes))
        return False

    monkeypatch.setattr("sysenv_ns.verbs.upgrade._upgraded_by_itself", upgrade)
    failed = run("upgrade", "--all", "--yes")
    assert upgraded == [("whole", True)]
    assert (failed.exit_code, "not upgraded: whole" in failed.stderr) == (1, True)
    monkeypatch.setattr("sysenv_ns.verbs.upgrade.own_packages", lambda store, name: [])
    assert run("upgrade", "whole").stderr == "sysenv-ns: whole has no packages of its own\n"
    seen: list[Command] = []
    monkeypatch.setattr("sysenv_ns.verbs.entry.enter", lambda context, name, command, new: seen.append(command))
    monkeypatch.setattr("sysenv_ns.verbs.upgrade.own_packages", lambda store, name: ["hello", "libc6:i386"])
    run("upgrade", "whole")
    assert seen[0].arguments is not None
    assert (seen[0].identity, seen[0].arguments[3:]) == ("root", ("sh", "", "hello", "libc6:i386"))


def test_list_with_sizes(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    upper = environments.envs / "whole" / "upper"
    (upper / "file").write_bytes(bytes(2_000_000))
    os.link(upper / "file", upper / "again")
    title, damaged, whole = run("list", "--size").stdout.splitlines()
    assert title.endswith("  SIZE")
    assert damaged.endswith("  -")
    assert whole.endswith("  2.0 MB")
    sizes = [found["size"] for found in json.loads(run("list", "--size", "--json").stdout)["environments"]]
    assert sizes[0] is None
    assert 2_000_000 <= sizes[1] < 2_100_000
    assert "SIZE" not in run("list").stdout
    assert "size" not in json.loads(run("list", "--json").stdout)["environments"][0]
    monkeypatch.setenv("SYSENV_NS", "whole")
    assert "from inside the environment whole" in run("list", "--size").stderr


@pytest.mark.parametrize("arguments", [("list",), ("exec", "whole", "true"), ("shell", "whole")])
def test_an_interrupt_has_its_own_status(
    run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sysenv_ns.status.all_of", _interrupt)
    monkeypatch.setattr("sysenv_ns.environment.store.Store.load", _interrupt)
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (130, "sysenv-ns: interrupted\n")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("diff", "absent"), 1),
        (("diff", "--exit-code", "absent"), 2),
        (("sync", "absent", "/no/such/sysenv.toml"), 1),
        (("sync", "--check", "absent", "/no/such/sysenv.toml"), 2),
    ],
)
def test_to_fail_is_not_to_differ(run: Run, environments: Store, arguments: tuple[str, ...], status: int) -> None:
    assert run(*arguments).exit_code == status


def test_variables_and_directory_of_a_command(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Command] = []
    monkeypatch.setattr("sysenv_ns.verbs.entry.enter", lambda context, name, command, new: seen.append(command))
    run("exec", "--env", "A=1", "--env", "B=x=y", "--env", "EMPTY=", "--workdir", "/srv", "whole", "true")
    assert (seen[0].variables, seen[0].directory) == ((("A", "1"), ("B", "x=y"), ("EMPTY", "")), "/srv")


@pytest.mark.parametrize("pair", ["A", "=x", "", "SYSENV_NS=x"])
def test_what_is_no_variable(run: Run, environments: Store, pair: str) -> None:
    assert run("exec", "--env", pair, "whole", "true").exit_code == 2
