"""Throwaway environments on top of one in a store that is only read: on each node of a cluster they begin with that."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from .machines import Machine
from .support import Tool, describe, finish, line, refused, succeeded, wait_for

_MAKE = "mkdir /usr/own; echo source > /usr/own/file; touch /usr/own/other; rm -r /usr/share/doc/bash"
_LOOK = """
cat /usr/own/file
[ "$SYSENV_NS" = "$(cat /etc/debian_chroot)" ]
[ ! -e /usr/share/doc/bash ]
echo more >> /usr/own/file
rm /usr/own/other
mkdir /usr/own/new
ls /usr/own
exit 7
"""
_CLOSE = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"'
_RELEASE = 'NAME="Another"\nID=another\nVERSION_ID="1"\n'


def _on_node(machine: Machine, shared: Path | None = None) -> Tool:
    """The same user's tool with a store of the node's own, and the other one only to be read."""
    tool = machine.tool
    variable = f"SYSENV_NS_SHARED={shared or tool.store}"
    return replace(tool.at(tool.store.with_name("node")), prefix=(*tool.prefix, "env", variable))


@pytest.mark.modes("full", more=("single",))
def test_many_at_once_from_a_store_that_nobody_can_write(machine: Machine) -> None:
    """One of them builds the node's base; in the end each store has what it had."""
    source = machine.create()
    source.sh(_MAKE)
    node = _on_node(machine)
    hint = f"SYSENV_NS_HOME={source.tool.store} sysenv-ns snapshot {source.name}"
    refused(node.run("exec", "--ephemeral", source.name, "--", "true"), 125, "not in a snapshot", hint)
    succeeded(source.tool.run("snapshot", source.name))
    machine.sh(_CLOSE, str(source.tool.store))
    for options in (("--ephemeral",), ("--ephemeral", "--on-disk")):
        started = [node.start("exec", *options, source.name, "--", "sh", "-ec", _LOOK) for _ in range(5)]
        for process in started:
            result = finish(process)
            assert (result.returncode, result.stdout, result.stderr) == (7, "source\nfile\nnew\n", ""), describe(result)
    assert node.names() == []
    for directory in ("envs", "trash"):
        assert os.listdir(node.store / directory) == []
    assert os.listdir(node.store / "layers") == ["lock"]


@pytest.mark.modes("full")
def test_one_that_lives(machine: Machine) -> None:
    """It is the node's: listed, entered, killed, and then gone."""
    source = machine.create()
    source.sh(_MAKE)
    succeeded(source.tool.run("snapshot", source.name))
    node = _on_node(machine)
    process = node.start("exec", "--ephemeral", source.name, "--", "sh", "-c", "echo $SYSENV_NS; exec sleep 300")
    name = line(process).strip()
    assert node.environment(name).sh("cat /usr/own/file") == "source\n"
    refused(source.tool.run("status", name), 1, "there is no environment")
    succeeded(source.tool.run("exec", source.name, "true"))  # nothing of it is locked
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    wait_for(lambda: node.names() == [])
    assert os.listdir(node.store / "envs") == os.listdir(node.store / "trash") == []


@pytest.mark.modes("full")
def test_what_is_refused(machine: Machine, shared: Path) -> None:
    tool, source = machine.tool, machine.create()
    node = _on_node(machine)
    refused(node.run("exec", "--ephemeral", "absent", "--", "true"), 125, "there is no environment absent")
    refused(_on_node(machine, shared).run("exec", "--ephemeral", "x", "--", "true"), 125, "another user", "pull")
    refused(_on_node(machine, shared / "no").run("exec", "--ephemeral", "x", "--", "true"), 125, "cannot be read")
    tool.store.chmod(0o720)
    refused(node.run("exec", "--ephemeral", source.name, "--", "true"), 125, "other users can write", "chmod go-w")
    tool.store.chmod(0o700)
    session = tool.start("exec", "--ephemeral", "--", "sh", "-c", "echo $SYSENV_NS; exec sleep 300")
    brief = line(session).strip()
    refused(node.run("exec", "--ephemeral", brief, "--", "true"), 125, "it is a throwaway environment")
    session.kill()
    finish(session)
    (origin,) = {path.parent.parent for path in (tool.store / "origins").glob("*/etc/os-release")}
    (origin / "etc/os-release").write_text(_RELEASE)
    call = ("exec", "--ephemeral", source.name, "--", "true")
    refused(node.run(*call), 125, "was made on another 1, this system is ")
    assert not (node.store / "envs").exists() or os.listdir(node.store / "envs") == []
