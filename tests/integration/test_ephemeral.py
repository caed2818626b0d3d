"""--ephemeral: environments that end with their last process."""

from __future__ import annotations

import json
import os
import signal

import pytest

from .machines import Machine
from .support import BASE_LIMIT, Tool, describe, finish, refused, succeeded, wait_for

_LOOK = """
echo "$SYSENV_NS $(cat /etc/debian_chroot)"
echo new > /usr/new
rm /etc/passwd
cat "$2"/envs/"$SYSENV_NS"/upper/usr/new 2>&1 >/dev/null | grep -c "No such file"
exit "$1"
"""


def _names(tool: Tool) -> list[str]:
    return [status["name"] for status in json.loads(succeeded(tool.run("list", "--json")).stdout)]


def _assert_nothing_is_left(tool: Tool) -> None:
    assert _names(tool) == []
    assert os.listdir(tool.store / "envs") == []
    assert os.listdir(tool.store / "trash") == []


@pytest.mark.modes("full", "single", "root")
def test_a_throwaway_environment(machine: Machine) -> None:
    """Its changes are in memory or on the disk, and gone afterwards; the status is the command's own."""
    tool = machine.tool
    for place, options in (("memory", ()), ("disk", ("--on-disk",))):
        command = ("sh", "-c", _LOOK, "sh", "7", str(tool.store))
        result = tool.run("exec", *tool.options, "--ephemeral", *options, "--", *command, limit=BASE_LIMIT)
        assert result.returncode == 7, describe(result)
        assert result.stderr == ""
        name, prompt, missing = result.stdout.split()
        assert name == prompt
        assert name.startswith("ephemeral-")
        assert missing == ("1" if place == "memory" else "0")
        _assert_nothing_is_left(tool)
    refused(tool.run("create", "ephemeral-12"), 2, "throwaway")


@pytest.mark.modes("full", "single")
def test_it_lives_as_long_as_a_process(machine: Machine) -> None:
    """It is listed and can be joined; what was killed is removed by the next command."""
    tool = machine.tool
    options = (*tool.options, "--ephemeral")
    process = tool.start("exec", *options, "--", "sh", "-c", "touch /usr/new; echo $SYSENV_NS; exec sleep 300")
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert name == f"ephemeral-{process.pid}"
    assert _names(tool) == [name]
    assert tool.status(name)["ephemeral"] == "memory"
    other = tool.environment(name)
    assert other.sh("ls /usr/new; setsid sleep 300 >/dev/null 2>&1 </dev/null &").strip() == "/usr/new"
    process.send_signal(signal.SIGKILL)
    assert finish(process).returncode == -signal.SIGKILL
    assert _names(tool) == [name]  # a process is left
    assert other.sh("ls /usr/new") == "/usr/new\n"
    succeeded(tool.run("stop", name))
    wait_for(lambda: _names(tool) == [])
    _assert_nothing_is_left(tool)
