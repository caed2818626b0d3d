"""--ephemeral: environments that end with their last process."""

from __future__ import annotations

import os
import signal

import pytest

from .machines import Machine
from .support import (
    BASE_LIMIT,
    Environment,
    Tool,
    describe,
    end,
    finish,
    line,
    notices,
    ran,
    refused,
    sleeper,
    succeeded,
    wait_for,
)

_LOOK = """
echo "$SYSENV_NS $(cat /etc/debian_chroot)"
echo new > /usr/new
rm /etc/passwd
cat "$2"/envs/"$SYSENV_NS"/upper/usr/new 2>&1 >/dev/null | grep -c "No such file"
exit "$1"
"""


_ON_TOP = """
cat /usr/own/file
[ "$SYSENV_NS" = "$(cat /etc/debian_chroot)" ]
echo more >> /usr/own/file
rm /usr/own/other
mkdir /usr/own/new
ls /usr/own
exit 7
"""


def _frozen(tool: Tool) -> list[str]:
    return [name for name in os.listdir(tool.store / "layers") if name != "lock"]


def _assert_nothing_is_left(tool: Tool) -> None:
    assert tool.names() == []
    assert os.listdir(tool.store / "envs") == []
    assert os.listdir(tool.store / "trash") == []
    assert _frozen(tool) == []


@pytest.mark.modes("full", "root", more=("single",))
def test_a_throwaway_environment(machine: Machine) -> None:
    """Its changes are in memory or on the disk, and gone afterwards; the status is the command's own."""
    tool = machine.tool
    for place, options in (("memory", ()), ("disk", ("--on-disk",))):
        command = ("sh", "-c", _LOOK, "sh", "7", str(tool.store))
        result = tool.run("exec", *tool.options, "--ephemeral", *options, "--", *command, limit=BASE_LIMIT)
        assert result.returncode == 7, describe(result)
        assert notices(result) == ""
        name, prompt, missing = result.stdout.split()
        assert name == prompt
        assert name.startswith("ephemeral-")
        assert missing == ("1" if place == "memory" else "0")
        _assert_nothing_is_left(tool)
    refused(tool.run("create", "ephemeral-12"), 2, "throwaway")


@pytest.mark.modes("full", more=("single",))
def test_it_lives_as_long_as_a_process(machine: Machine) -> None:
    """It is listed and can be joined; what was killed is removed by the next command."""
    tool = machine.tool
    options = (*tool.options, "--ephemeral")
    process = tool.start("exec", *options, "--", "sh", "-c", "touch /usr/new; echo $SYSENV_NS; exec sleep 300")
    name = line(process).strip()
    assert name == f"ephemeral-{process.pid}"
    assert tool.names() == [name]
    assert tool.status(name)["ephemeral"] == "memory"
    other = tool.environment(name)
    assert other.sh("ls /usr/new; setsid sleep 300 >/dev/null 2>&1 </dev/null &").strip() == "/usr/new"
    process.send_signal(signal.SIGKILL)
    assert finish(process).returncode == -signal.SIGKILL
    assert tool.names() == [name]  # a process is left
    assert other.sh("ls /usr/new") == "/usr/new\n"
    succeeded(tool.run("stop", name))
    wait_for(lambda: tool.names() == [])
    _assert_nothing_is_left(tool)


def _make_changes(source: Environment) -> None:
    source.sh("mkdir /usr/own; echo source > /usr/own/file; touch /usr/own/other")


def _source(machine: Machine) -> Environment:
    """One with changes."""
    source = machine.create()
    _make_changes(source)
    return source


def _assert_stays_what_it_is(source: Environment) -> None:
    tool, others = source.tool, source.tool.names()
    for options in (("--ephemeral",), ("--ephemeral", "--on-disk")):
        result = tool.run("exec", *options, source.name, "--", "sh", "-ec", _ON_TOP)
        assert (result.returncode, result.stdout, result.stderr) == (7, "source\nfile\nnew\n", ""), describe(result)
        assert tool.names() == others
        assert len(_frozen(tool)) == 1
    shell = tool.run("shell", "--ephemeral", source.name, stdin="cat /usr/own/file\nexit 5\n")
    assert (shell.returncode, shell.stdout) == (5, "source\n"), describe(shell)
    assert source.sh("cat /usr/own/file; ls /usr/own") == "source\nfile\nother\n"
    assert tool.status(source.name)["snapshots"] == []
    assert (tool.store / "layers" / _frozen(tool)[0] / "upper/usr/own/file").exists()


@pytest.mark.modes("full", "root", more=("single",))
def test_on_top_of_another(machine: Machine) -> None:
    """It begins as that one is, which stays what it is; nothing is left but the layer that both had."""
    source, tool = _source(machine), machine.tool
    _assert_stays_what_it_is(source)
    succeeded(tool.run("exec", "--ephemeral", source.name, "--", "true"))
    succeeded(tool.run("remove", "--purge", source.name))
    assert [os.listdir(tool.store / part) for part in ("envs", "trash")] == [
        [],
        [],
    ]  # before anybody looks (list does more)
    _assert_nothing_is_left(tool)


def test_all_can_be_removed_with_those_that_have_ended(machine: Machine) -> None:
    """Whichever of them is deleted first, the others that have ended go with it."""
    source, tool = _source(machine), machine.tool
    for _ in range(3):
        succeeded(tool.run("exec", "--ephemeral", source.name, "--", "true"))
    succeeded(tool.run("remove", "--all", "--yes"))
    assert os.listdir(tool.store / "envs") == []


# The tool where file systems in memory have no user attributes, as before Linux 6.6.
_WITHOUT_ATTRIBUTES = """
from sysenv_ns import memory
from sysenv_ns.__main__ import main

memory._mount = lambda place: False
main()
"""


@pytest.mark.modes("full", "idmap", more=("root", "single"))
def test_on_top_of_another_without_attributes_in_memory(new_environment: Environment) -> None:
    """The changes go to the disk, with a notice; nothing is left then, either."""
    source, tool = new_environment, new_environment.tool
    _make_changes(source)
    succeeded(tool.run("snapshot", source.name))
    script = (
        '[ "$(cat /etc/debian_chroot)" = "$SYSENV_NS" ]; stat -c %a / /usr /etc; cat /usr/own/file; rm /usr/own/file'
    )
    python = tool.launcher.parents[1] / ".venv" / "bin" / "python"
    command = ("exec", "--ephemeral", source.name, "--", "sh", "-ec", f"{script}; touch /usr/new")
    old = [*tool.beginning, str(python), "-I", "-c", _WITHOUT_ATTRIBUTES]
    result = ran([*old, *command], env=tool.variables(), cwd="/")
    assert (result.returncode, result.stdout) == (0, "755\n755\n755\nsource\n"), describe(result)
    assert "changes are kept on the disk" in result.stderr
    assert source.sh("cat /usr/own/file") == "source\n"
    assert tool.names() == [source.name]
    assert os.listdir(tool.store / "envs") == [source.name]


@pytest.mark.modes("fuse")
def test_on_top_of_another_that_a_program_serves(environment: Environment) -> None:
    """The small hosts have no /dev/fuse for users."""
    _make_changes(environment)
    _assert_stays_what_it_is(environment)


@pytest.mark.modes("full", more=("root",))
def test_what_it_needs_stays_as_long_as_it_lives(machine: Machine) -> None:
    """Though the environment below is removed meanwhile."""
    tool, source = machine.tool, _source(machine)
    process = tool.start("exec", "--ephemeral", source.name, "--", "sh", "-c", "echo $SYSENV_NS; exec sleep 300")
    brief = tool.environment(line(process).strip())
    assert tool.names() == [brief.name, source.name]
    for command in (
        ("snapshot", brief.name),
        ("clone", brief.name, "other"),
        ("exec", "--ephemeral", brief.name, "id"),
    ):
        refused(tool.run(*command), 125 if command[0] == "exec" else 1, "it is a throwaway environment")
    succeeded(tool.run("remove", "--purge", source.name))
    assert len(_frozen(tool)) == 1
    assert brief.sh("cat /usr/own/file") == "source\n"
    succeeded(tool.run("stop", brief.name))
    finish(process)
    wait_for(lambda: tool.names() == [])
    _assert_nothing_is_left(tool)


@pytest.mark.modes("single")
def test_not_on_top_of_one_that_runs(machine: Machine) -> None:
    """Its programs go on writing to what would be below."""
    tool, source = machine.tool, _source(machine)
    session = sleeper(source)
    hint = f"sysenv-ns stop {source.name}"
    refused(tool.run("exec", "--ephemeral", source.name, "--", "true"), 125, f"{source.name} is running", hint)
    end(session)
    refused(tool.run("exec", "--ephemeral", "absent", "--", "true"), 125, "there is no environment absent")
    assert tool.names() == [source.name]
    assert _frozen(tool) == os.listdir(tool.store / "trash") == []


@pytest.mark.modes("full")
def test_on_top_of_one_that_runs_as_it_was_frozen(machine: Machine) -> None:
    """What its programs write from now on goes to a directory of its own."""
    tool, source = machine.tool, _source(machine)
    command = ("exec", "--ephemeral", source.name, "--", "cat", "/usr/own/file")
    assert succeeded(tool.run(*command)).stdout == "source\n"
    session = sleeper(source)
    assert succeeded(tool.run(*command)).stdout == "source\n"
    source.sh("echo more > /usr/own/file")
    refused(tool.run(*command), 125, f"{source.name} is running")
    end(session)
    assert succeeded(tool.run(*command)).stdout == "more\n"


@pytest.mark.modes("full")
def test_many_at_once(machine: Machine) -> None:
    """Each waits for the others to begin, or removes what they have left; one freezes what is new."""
    tool, source = machine.tool, _source(machine)
    command = ("sh", "-ec", _ON_TOP)
    for _ in range(2):  # while some begin, others are removed
        started = [tool.start("exec", "--ephemeral", source.name, "--", *command) for _ in range(6)]
        for process in started:
            result = finish(process)
            assert (result.returncode, result.stdout, result.stderr) == (7, "source\nfile\nnew\n", ""), describe(result)
    assert tool.names() == [source.name]
    assert len(_frozen(tool)) == 1
    assert os.listdir(tool.store / "trash") == []
