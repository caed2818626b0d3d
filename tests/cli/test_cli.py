"""The command line: usage, exit statuses, and errors with their hints."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from sysenv_ns import __version__, creation, verbs
from sysenv_ns.cli import main
from sysenv_ns.command import Command
from sysenv_ns.environment.description import Environment, write_description
from sysenv_ns.environment.store import Store

from .conftest import Run


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"sysenv-ns {__version__}\n")


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [None, *verbs.NAMES])
def test_help(run: Run, store: Store, command: str | None, option: str) -> None:
    result = run(*([command] if command else []), option)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: main {command or '[OPTIONS] COMMAND'} ")
    assert not store.path.exists()


def test_help_names_every_command(run: Run) -> None:
    lines = run("--help").stdout.partition("Environments:\n")[2].splitlines()
    described = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    assert tuple(described) == verbs.NAMES
    assert not [text for text in described.values() if text.endswith("...")]


@pytest.mark.parametrize("verb", verbs.NAMES)
def test_the_examples_in_help_are_calls_of_the_verb(verb: str) -> None:
    command = verbs.load(verb)
    title, *lines = (command.epilog or "").removeprefix("\b\n").splitlines()
    assert title == "Examples:"
    assert [line for line in lines if len(line) > 76] == []  # with click's own margin, 80 letters are enough
    assert lines
    for line in lines:
        example = line.partition("  # ")[0]
        words = shlex.split(re.split(r" [|>] |[<][(]|[)]$", example.replace("source <(", ""))[0])
        assert words[:2] == ["sysenv-ns", verb]
        with click.Context(main, **main.context_settings) as group:
            command.make_context(verb, words[2:], group)


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("--no-such-option", "list"),
        ("create",),
        ("create", "a", "b"),
        ("create", "a", "--driver", "other"),
        ("create", "a", "--id-map", "other"),
        ("shell",),
        ("shell", "a", "b"),
        ("exec",),
        ("exec", "whole"),
        ("exec", "whole", "--"),
        ("exec", "--root", "whole"),
        ("remove",),
        ("status",),
        ("diff",),
        ("diff", "whole", "--no-such-option"),
        ("stop",),
        ("stop", "whole", "--time", "-1"),
        ("list", "a"),
        ("doctor", "a"),
        ("which", "whole"),
        ("link", "whole"),
        ("unlink",),
    ],
)
def test_wrong_usage(run: Run, store: Store, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage:" in result.stderr
    assert not store.path.exists()


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a b", "x" * 101, "ä", "\udcff"])
@pytest.mark.parametrize("command", ["create", "shell", "status", "stop", "remove", "exec", "diff"])
def test_bad_names(run: Run, store: Store, command: str, name: str) -> None:
    result = run(command, name, *(["true"] if command == "exec" else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "hint: use letters" in result.stderr
    assert not store.path.exists()


@pytest.mark.parametrize("command", ["status", "stop", "remove", "diff", "unlink"])
def test_an_unknown_environment(run: Run, environments: Store, command: str) -> None:
    result = run(command, "absent")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "sysenv-ns: there is no environment absent\nhint: existing ones: damaged, whole\n"


@pytest.mark.parametrize("command", ["status", "stop", "remove", "diff"])
def test_an_unknown_environment_in_an_empty_store(run: Run, store: Store, command: str) -> None:
    result = run(command, "absent")
    assert result.exit_code == 1
    assert "hint: create it with: sysenv-ns create absent" in result.stderr
    assert not store.path.exists()


def test_an_empty_list(run: Run, store: Store) -> None:
    result = run("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no environments" in result.stderr
    assert json.loads(run("list", "--json").stdout)["environments"] == []
    assert not store.path.exists()


def test_list(run: Run, environments: Store) -> None:
    result = run("list")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["NAME", "STATE"],
        ["damaged", "damaged"],
        ["whole", "stopped"],
    ]


def test_list_as_json(run: Run, environments: Store) -> None:
    damaged, whole = json.loads(run("list", "--json").stdout)["environments"]
    assert (whole["name"], whole["driver"], whole["running"], whole["problem"]) == ("whole", "stub", False, "")
    assert "env.json of damaged is damaged" in damaged["problem"]


def test_one_odd_entry_does_not_hide_the_others(run: Run, environments: Store) -> None:
    (environments.envs / "link").symlink_to("whole")
    (environments.envs / "file").touch()
    result = run("list")
    assert result.exit_code == 0
    assert "whole" in result.stdout


def test_status(run: Run, environments: Store) -> None:
    result = run("status", "whole")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{environments.envs}/whole/upper" in result.stdout
    assert json.loads(run("status", "whole", "--json").stdout)["path"] == f"{environments.envs}/whole"


def test_status_of_a_damaged_environment(run: Run, environments: Store) -> None:
    result = run("status", "damaged")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "problem:" in result.stdout
    assert json.loads(run("status", "damaged", "--json").stdout)["problem"]


@pytest.mark.parametrize("arguments", [("status", "whole"), ("status", "whole", "--json"), ("list",)])
def test_a_store_at_an_undecodable_place(
    run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    place = os.fsdecode(os.fsencode(environments.path) + b"-\xff")
    environments.path.rename(place)
    monkeypatch.setenv("SYSENV_NS_HOME", place)
    assert run(*arguments).exit_code == 0


def test_commands_that_run_fail_with_125_on_a_damaged_environment(run: Run, environments: Store) -> None:
    for arguments in (("exec", "damaged", "--", "true"), ("exec", "damaged", "true"), ("shell", "damaged")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (125, "")
        assert "env.json of damaged is damaged" in result.stderr
        assert "hint:" in result.stderr


def test_stop(run: Run, environments: Store) -> None:
    result = run("stop", "whole")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "sysenv-ns: whole was not running\n")
    assert run("stop", "damaged").exit_code == 1


@pytest.mark.parametrize("options", [("--driver", "copy"), ("--id-map", "full")])
def test_driver_and_id_map_are_chosen_once(run: Run, environments: Store, options: tuple[str, ...]) -> None:
    result = run("exec", *options, "whole", "true")
    assert result.exit_code == 125
    assert "whole already exists" in result.stderr


def test_create_refuses_an_existing_name(run: Run, environments: Store) -> None:
    for name in ("whole", "damaged"):
        result = run("create", name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"hint: enter it with: sysenv-ns shell {name}" in result.stderr


@pytest.mark.parametrize("command", [("create", "new"), ("exec", "new", "true")])
@pytest.mark.parametrize(("driver", "id_map", "hint"), [("fuse", "full", "single"), ("root", "full", "leave out")])
def test_a_driver_that_cannot_be_had_leaves_nothing(
    run: Run, store: Store, command: tuple[str, ...], driver: str, id_map: str, hint: str
) -> None:
    result = run(command[0], "--driver", driver, "--id-map", id_map, *command[1:])
    assert result.exit_code == 2
    assert f"hint: {hint}" in result.stderr or f"hint: use --id-map {hint}" in result.stderr
    assert store.names() == []
    assert list(store.trash.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("create", "new"), 1),
        (("list",), 1),
        (("list", "--json"), 1),
        (("status", "x"), 1),
        (("stop", "x"), 1),
        (("remove", "x"), 1),
        (("exec", "new", "true"), 125),
        (("shell", "new"), 125),
    ],
)
def test_a_store_that_cannot_be_used(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SYSENV_NS_HOME", str(tmp_path / "file" / "store"))
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith('{"version": 1, "error": {' if "--json" in arguments else "sysenv-ns: ")
    assert "ENOTDIR" in result.stderr


def test_a_new_environment_in_a_store_that_cannot_be_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSENV_NS_HOME", "/proc/no-such-place")
    result = run("create", "new")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "or set SYSENV_NS_HOME" in result.stderr


def test_an_unexpected_error_is_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(store: Store, is_whole: bool) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/some/file")

    monkeypatch.setattr("sysenv_ns.status.all_of", fail)
    result = run("list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("sysenv-ns: /some/file: Input/output error (EIO)\nhint: ")


def test_a_reader_that_goes_away_is_no_error(environments: Store) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "sysenv_ns", "list"]
    result = subprocess.run(command, check=False, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (result.returncode, result.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("create", "new"), 1),
        (("stop", "whole"), 1),
        (("remove", "whole"), 1),
        (("exec", "whole", "true"), 125),
        (("shell", "new"), 125),
    ],
)
def test_environments_do_not_nest(
    run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int
) -> None:
    monkeypatch.setenv("SYSENV_NS", "outer")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert "inside the environment outer" in result.stderr
    assert "hint: leave it first" in result.stderr
    assert environments.names() == ["damaged", "whole"]
    assert run("list").exit_code == 0


def test_remove_all_asks(store: Store, run: Run) -> None:
    store.prepare()
    (store.base / "stub-single-00000000" / "stubs-1" / "tree").mkdir(parents=True)
    refused = run("remove", "--all")
    assert (refused.exit_code, "--yes" in refused.stderr) == (1, True), refused.stderr
    assert (store.base / "stub-single-00000000").exists()
    assert run("remove", "--all", "name").exit_code == 2
    result = run("remove", "--all", "--yes")
    assert result.exit_code == 0, result.stderr
    assert "removed the base stub-single-00000000" in result.stderr
    again = run("remove", "--all", "--yes")
    assert (again.exit_code, "there is no base to remove" in again.stderr) == (0, True), again.stderr


def test_remove_base_deletes_what_no_environment_needs(store: Store, run: Run) -> None:
    store.prepare()
    unused = store.base / "stub-single-00000000"
    (unused / "stubs-1" / "tree").mkdir(parents=True)
    result = run("remove", "--base")
    assert result.exit_code == 0, result.stderr
    assert "removed the base stub-single-00000000 (0 MB)" in result.stderr
    assert [path.name for path in store.base.iterdir()] == ["CACHEDIR.TAG"]
    assert list(store.trash.iterdir()) == []


@pytest.fixture
def user_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's policy file, with a key that nobody knows."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "sysenv-ns" / "config.toml"
    path.parent.mkdir()
    path.write_text("no-such-key = 1\n")
    return path


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("create", "new"), 1), (("shell", "new"), 125), (("exec", "new", "true"), 125), (("shell", "whole"), 125)],
)
def test_a_wrong_policy_file(
    run: Run,
    environments: Store,
    monkeypatch: pytest.MonkeyPatch,
    user_config: Path,
    arguments: tuple[str, ...],
    status: int,
) -> None:
    # It waits for a process that fails to end, and this one goes on.
    monkeypatch.setattr("sysenv_ns.session.emulation_of", lambda store, environment: None)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert f"{user_config}: unknown key 'no-such-key'" in result.stderr
    assert "hint: known keys: bind, overlay, driver, id-map, shell" in result.stderr
    assert environments.names() == ["damaged", "whole"]


@pytest.mark.parametrize("arguments", [("list",), ("status", "whole"), ("doctor", "--help")])
def test_a_wrong_policy_file_is_nothing_to_those_who_only_look(
    run: Run, environments: Store, user_config: Path, arguments: tuple[str, ...]
) -> None:
    assert run(*arguments).exit_code == 0


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ((), ("copy", "full")),
        (("--driver", "stub"), ("stub", "auto")),
        (("--id-map", "single"), ("copy", "single")),
        (("--driver", "auto", "--id-map", "auto"), ("auto", "auto")),
    ],
)
def test_options_win_over_the_policy_file(
    run: Run,
    store: Store,
    user_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    chosen: tuple[str, str],
) -> None:
    user_config.write_text('driver = "copy"\nid-map = "full"\n')
    asked: list[tuple[str, str]] = []

    def create(
        store: Store, name: str, driver: str, id_map: str, reporter: object, throwaway: object, init: bool
    ) -> None:
        assert throwaway is None
        assert not init
        asked.append((driver, id_map))

    monkeypatch.setattr(creation, "create", create)
    assert run("create", "new", *options).exit_code == 0
    assert asked == [chosen]


def test_rebase_of_what_is_not_there(run: Run, environments: Store) -> None:
    result = run("rebase", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no environment nobody" in result.stderr


def test_rebase_of_a_damaged_environment(run: Run, environments: Store) -> None:
    result = run("rebase", "--dry-run", "damaged")
    assert result.exit_code == 1
    assert "env.json of damaged is damaged" in result.stderr


def test_rebase_from_inside(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSENV_NS", "whole")
    result = run("rebase", "whole")
    assert result.exit_code == 1
    assert "cannot rebase an environment from inside" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("snapshot",),
        ("snapshot", "--delete", "whole"),
        ("snapshot", "whole", "a", "b"),
        ("rollback", "whole"),
        ("history",),
        ("clone", "whole"),
        ("rename", "whole"),
        ("shell", "--on-disk", "whole"),
        ("shell", "--ephemeral", "whole", "more"),
        ("exec", "--ephemeral", "true"),
        ("exec", "--ephemeral", "whole", "--"),
        ("exec", "--ephemeral", "--"),
        ("exec", "--on-disk", "whole", "--", "true"),
        ("export",),
        ("export", "whole"),
        ("export", "whole", "a", "b"),
        ("export", "--format", "zip", "whole", "a"),
        ("export", "--json", "whole", "-"),
        ("import",),
        ("import", "a", "b", "c"),
        ("import", "--driver", "x", "a"),
    ],
)
def test_wrong_usage_beside_environments(run: Run, environments: Store, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage:" in result.stderr


@pytest.mark.parametrize(
    "verb", [("snapshot",), ("history",), ("rollback", "x"), ("clone", "x"), ("rename", "x"), ("snapshot", "x")]
)
def test_snapshots_of_what_is_not_there(run: Run, environments: Store, verb: tuple[str, ...]) -> None:
    for name, message in (("nobody", "there is no environment nobody"), ("damaged", "env.json of damaged is damaged")):
        result = run(verb[0], name, *verb[1:])
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
        assert "hint: " in result.stderr
    assert environments.names() == ["damaged", "whole"]


@pytest.mark.parametrize("verb", ["clone", "rename"])
@pytest.mark.parametrize(("name", "taken"), [("damaged", True), ("whole", True), ("a b", False)])
def test_a_free_name_is_needed(run: Run, environments: Store, verb: str, name: str, taken: bool) -> None:
    result = run(verb, "whole", name)
    assert result.exit_code == (1 if taken else 2)
    assert ("already exists" if taken else "is not a valid name for an environment") in result.stderr


def test_what_is_linked_keeps_its_name(run: Run, environments: Store) -> None:
    link = {"command": "rg", "target": "/usr/bin/rg", "files": [{"path": "/nowhere/rg", "digest": "0"}]}
    (environments.envs / "whole" / "links.json").write_text(json.dumps({"version": 1, "links": [link]}))
    result = run("rename", "whole", "other")
    assert (result.exit_code, environments.names()) == (1, ["damaged", "whole"])
    assert "there are links to commands of whole" in result.stderr
    assert "sysenv-ns unlink whole" in result.stderr


@pytest.mark.parametrize(
    "verb",
    [
        ("snapshot", "whole"),
        ("rollback", "whole", "x"),
        ("clone", "whole", "x"),
        ("rename", "whole", "x"),
        ("export", "whole", "file"),
        ("import", "file"),
    ],
)
def test_not_from_inside(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]) -> None:
    monkeypatch.setenv("SYSENV_NS", "whole")
    result = run(*verb)
    assert result.exit_code == 1
    assert "from inside the environment whole" in result.stderr


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (("snapshot", "brief"), "the snapshot of brief is not possible"),
        (("rollback", "brief", "x"), "the rollback of brief is not possible"),
        (("clone", "brief", "x"), "the clone of brief is not possible"),
        (("rename", "brief", "x"), "the renaming of brief is not possible"),
        (("rebase", "brief"), "a rebase of brief is not possible"),
        (("link", "brief", "sh"), "a link of brief is not possible"),
        (("diff", "brief"), "the changes of brief cannot be shown"),
        (("which", "brief", "sh"), "the programs of brief cannot be shown"),
    ],
)
def test_what_throwaway_environments_have_not(
    run: Run, environments: Store, verb: tuple[str, ...], message: str
) -> None:
    whole = environments.load("whole")
    (environments.envs / "brief" / "upper").mkdir(parents=True)
    write_description(environments.envs / "brief", replace(whole, ephemeral="memory"))
    result = run(*verb)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"sysenv-ns: {message}: ")
    assert "\nhint: " in result.stderr
    assert environments.names() == ["brief", "damaged", "whole"]


def test_a_history_without_snapshots(run: Run, environments: Store) -> None:
    assert json.loads(run("history", "whole", "--json").stdout) == {
        "version": 1,
        "name": "whole",
        "snapshots": [],
        "size": 0,
    }
    assert run("history", "whole").stdout.splitlines()[-1].split() == ["(since)", "0", "B"]


def test_unlink_where_nothing_is_linked(run: Run, environments: Store) -> None:
    result = run("unlink", "whole")
    assert (result.exit_code, result.stderr) == (0, "sysenv-ns: whole has no links\n")
    assert json.loads(run("unlink", "whole", "--json").stdout) == {"version": 1, "links": []}
    result = run("unlink", "whole", "rg")
    assert result.exit_code == 1
    assert result.stderr == "sysenv-ns: whole has no link rg\nhint: make one with: sysenv-ns link whole COMMAND\n"


@pytest.mark.parametrize("command", ["", "a/b", "/", ".."])
@pytest.mark.parametrize("verb", ["which", "link"])
def test_what_names_no_command(run: Run, environments: Store, verb: str, command: str) -> None:
    result = run(verb, "whole", command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(
        " is not the name of a command\nhint: give a name, or an absolute path in the environment\n"
    )


def test_a_damaged_record_of_links(run: Run, environments: Store) -> None:
    record = environments.envs / "whole" / "links.json"
    record.write_text("{")
    assert f"{record} is damaged" in run("status", "whole").stdout
    assert json.loads(run("list", "--json").stdout)["environments"][1]["problem"]


@pytest.mark.parametrize(
    ("arguments", "command", "place"),
    [
        (("shell", "--ephemeral", "whole"), None, "memory"),
        (("shell", "whole", "--on-disk", "--ephemeral"), None, "disk"),
        (("exec", "--ephemeral", "whole", "--", "a", "--", "b"), ("a", "--", "b"), "memory"),
        (("exec", "--ephemeral", "--on-disk", "whole", "a", "--x"), ("a", "--x"), "disk"),
    ],
)
def test_on_top_of_an_environment(
    run: Run,
    environments: Store,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    command: tuple[str, ...] | None,
    place: str,
) -> None:
    entered: list[tuple[Environment, Command]] = []
    monkeypatch.setattr("sysenv_ns.session.run", lambda store, new, command, reporter: entered.append((new, command)))
    result = run(*arguments)
    assert (result.exit_code, result.output) == (0, "")
    ((new, given),) = entered
    assert (new.name, new.ephemeral) == (f"ephemeral-{os.getpid()}", place)
    assert given.arguments == command
    assert environments.names() == ["damaged", new.name, "whole"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("exec", "--ephemeral", "absent", "--", "true"), 125, "there is no environment absent"),
        (("exec", "--ephemeral", "", "--", "true"), 2, "'' is not a valid name for an environment"),
        (("shell", "--ephemeral", "damaged"), 125, "env.json of damaged is damaged"),
        (("shell", "--ephemeral", "--driver", "copy", "whole"), 125, "with the driver stub"),
    ],
)
def test_on_top_of_what_cannot_be(
    run: Run, environments: Store, arguments: tuple[str, ...], status: int, message: str
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert "hint: " in result.stderr
    assert environments.names() == ["damaged", "whole"]


def test_a_link_makes_no_environment(run: Run, environments: Store) -> None:
    result = run("exec", "--linked", "absent", "--", "true")
    assert result.exit_code == 125
    assert result.stderr.startswith("sysenv-ns: there is no environment absent\nhint: this command is a leftover link")
    assert not environments.exists("absent")
