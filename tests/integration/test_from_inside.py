"""The tool as it is used inside an environment: what exec, list and status do there, and what the others say."""

from __future__ import annotations

import json

import pytest

from .support import Environment, Result, refused, succeeded

pytestmark = pytest.mark.modes("full", more=("single", "root"))


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: they only read."""
    return shared_environment


def _tool(environment: Environment, *arguments: str, identity: str = "") -> Result:
    """The tool, run in the environment."""
    return environment.exec(str(environment.tool.launcher), *arguments, identity=identity)


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_exec_of_the_same_environment_just_runs_the_command(environment: Environment, verb: str) -> None:
    result = _tool(environment, verb, environment.name, "--", "sh", "-c", 'echo "$SYSENV_NS $0 $1"; exit 7', "a", "b c")
    assert (result.returncode, result.stdout, result.stderr) == (7, f"{environment.name} a b c\n", "")
    assert _tool(environment, "exec", environment.name, "--", "no-such-command").returncode == 127


@pytest.mark.modes("full")
def test_a_makefile_is_used_on_both_sides(environment: Environment) -> None:
    tool = environment.tool
    (tool.account.home / "both.mk").write_text(f"all:\n\t@{tool.launcher} exec {environment.name} -- hostname\n")
    outside = environment.tool.run("exec", "--me", environment.name, "--", "make", "-sf", "both.mk")
    inside = environment.exec("make", "-sf", "both.mk")
    assert succeeded(outside).stdout == succeeded(inside).stdout != ""


@pytest.mark.modes("full")
def test_who_runs_it_can_be_chosen_inside_too(environment: Environment) -> None:
    uid = environment.tool.account.uid
    run = ("exec", environment.name, "--", "id", "-u")
    assert succeeded(_tool(environment, *run, identity="--me")).stdout == f"{uid}\n"
    assert succeeded(_tool(environment, *run)).stdout == "0\n"
    as_root = _tool(environment, "exec", "--root", *run[1:], identity="--me")
    assert succeeded(as_root).stdout == "0\n"


def test_it_is_known_where_sudo_has_cleared_the_name(environment: Environment) -> None:
    command = ("env", "-u", "SYSENV_NS", str(environment.tool.launcher), "exec", environment.name, "--", "echo", "here")
    assert succeeded(environment.exec(*command)).stdout == "here\n"


def test_status_and_list_tell_the_truth(environment: Environment) -> None:
    for identity in ("",) if environment.tool.mode == "single" else ("", "--me"):
        said = succeeded(_tool(environment, "status", environment.name, "--json", identity=identity)).stdout
        status = json.loads(said)
        assert (status["running"], status["here"], status["drift"], status["host_changed"]) == (True, True, None, False)
        assert status["processes"]
        lines = succeeded(_tool(environment, "list", identity=identity)).stdout.splitlines()
        mine = next(line for line in lines if line.startswith(f"{environment.name} "))
        assert "running (" in mine
        assert "you are in it" in mine


def test_what_lives_in_another_one_is_not_guessed(environment: Environment) -> None:
    tool = environment.tool
    other = tool.environment(f"{environment.name}-other")
    succeeded(tool.run("create", other.name, *tool.options))
    try:
        status = json.loads(succeeded(_tool(environment, "status", other.name, "--json")).stdout)
        assert (status["running"], status["unseen"], status["here"]) == (None, True, False)
        sleeper = other.exec("sh", "-c", "sleep 300 > /dev/null 2>&1 & echo started")
        assert succeeded(sleeper).stdout == "started\n"
    finally:
        tool.end(other.name)


@pytest.mark.parametrize(
    "arguments",
    [
        ("history", "NAME"),
        ("doctor",),
        ("diff", "NAME"),
        ("stop", "NAME"),
        ("remove", "NAME"),
        ("clone", "NAME", "new"),
    ],
)
def test_other_verbs_say_what_to_do(environment: Environment, arguments: tuple[str, ...]) -> None:
    result = _tool(environment, *(environment.name if word == "NAME" else word for word in arguments))
    refused(result, 1, f"from inside the environment {environment.name}", "hint: leave it first")


def test_another_environment_is_not_entered(environment: Environment) -> None:
    for verb in (("exec", "another", "--", "true"), ("shell", "another"), ("shell", environment.name)):
        refused(_tool(environment, *verb), 125, "cannot enter an environment from inside", "leave it first")


def test_variables_and_directory_of_a_command(environment: Environment) -> None:
    options = ("--env", "GREETING=hello there", "--env", "HOME=/nowhere", "--workdir", "/usr/share")
    script = 'echo "$GREETING"; echo "$HOME"; pwd; echo "$SYSENV_NS"'
    expected = f"hello there\n/nowhere\n/usr/share\n{environment.name}\n"
    outside = environment.tool.run("exec", *options, environment.name, "--", "sh", "-c", script)
    assert succeeded(outside).stdout == expected
    assert (
        succeeded(_tool(environment, "exec", *options, environment.name, "--", "sh", "-c", script)).stdout == expected
    )
    missing = environment.tool.run("exec", "--workdir", "/no/such", environment.name, "--", "true")
    refused(missing, 125, "/no/such in the environment: No such file")
