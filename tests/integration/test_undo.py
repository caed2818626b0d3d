"""remove --undo: an environment is back as it was, whatever came between, was killed meanwhile or went on beside it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machines import Machine
from .support import Environment, Tool, describe, finish, refused, succeeded

_PROGRAM = "printf '#!/bin/sh\\necho greetings\\n' > /usr/local/bin/greet; chmod 755 /usr/local/bin/greet"


@pytest.fixture
def proj(tool: Tool) -> Iterator[Environment]:
    """An environment with something in it, which a test may remove; nothing is kept of it afterwards."""
    environment = tool.environment("undone")
    succeeded(tool.run("create", *tool.options, environment.name))
    environment.sh(f"{_PROGRAM}; echo kept > /srv/kept")
    yield environment
    if (tool.store / "envs" / environment.name).exists():
        tool.end(environment.name)
    succeeded(tool.run("remove", "--purge"))


def _kept(tool: Tool) -> list[str]:
    return [found["name"] for found in json.loads(succeeded(tool.run("list", "--removed", "--json")).stdout)["removed"]]


def _make_due(tool: Tool) -> None:
    """As if all that was removed had been so a day ago."""
    for path in (tool.store / "removed").iterdir():
        path.rename(path.with_name(f"{path.name.rpartition('-')[0]}-1"))


@pytest.mark.modes("full", more=("single", "root"))
def test_it_is_back_as_it_was(proj: Environment) -> None:
    """With its snapshots and settings, though a clone that it shared layers with is gone."""
    tool, name = proj.tool, proj.name
    copy = tool.environment(f"{name}-copy")
    succeeded(tool.run("snapshot", name, "one"))
    proj.sh("echo later > /srv/later; rm /srv/kept")
    (tool.store / "envs" / name / "config.toml").write_text('env = { GREETING = "hello" }\n')
    before, inode = succeeded(tool.run("history", name, "--json")).stdout, (tool.store / "envs" / name).stat().st_ino
    succeeded(tool.run("clone", "--snapshot", "one", name, copy.name))
    said = succeeded(tool.run("remove", name)).stderr
    assert said == f"sysenv-ns: removed {name}; to undo this within a day: sysenv-ns remove --undo {name}\n"
    assert copy.sh("cat /srv/kept") == "kept\n"
    succeeded(tool.run("remove", "--purge", copy.name))
    refused(proj.tool.run("status", name), 1, f"there is no environment {name}", f"remove --undo {name}")
    assert _kept(tool) == [name]
    assert succeeded(tool.run("remove", "--undo")).stderr == f"sysenv-ns: restored {name}\n"
    assert (tool.store / "envs" / name).stat().st_ino == inode
    assert succeeded(tool.run("history", name, "--json")).stdout == before
    assert proj.sh('cat /srv/later; test ! -e /srv/kept; echo "$GREETING"') == "later\nhello\n"
    succeeded(tool.run("rollback", name, "one"))
    assert proj.sh("cat /srv/kept") == "kept\n"
    assert _kept(tool) == []


@pytest.mark.modes("full")
def test_the_base_is_made_again(machine: Machine) -> None:
    """A removed environment needs none; remove --all leaves nothing at all."""
    tool, environment = machine.tool, machine.environment
    environment.sh("echo kept > /srv/kept")
    succeeded(tool.run("remove", "--base", environment.name))
    assert list((tool.store / "base").glob("*/")) == []
    succeeded(tool.run("remove", "--undo"))
    assert environment.sh("cat /srv/kept") == "kept\n"
    succeeded(tool.run("snapshot", environment.name))
    succeeded(tool.run("remove", environment.name))
    succeeded(tool.run("remove", "--all", "--yes"))
    left = sorted(str(path.relative_to(tool.store)) for path in tool.store.rglob("*") if not path.is_dir())
    assert left == ["base/CACHEDIR.TAG", "layers/lock"]
    assert os.listdir(tool.store / "removed") == os.listdir(tool.store / "origins") == []


@pytest.mark.modes("full")
def test_several_of_one_name(proj: Environment) -> None:
    """The last one is restored, and only where its name is free; purge deletes all of them, and nothing else."""
    tool, name = proj.tool, proj.name
    succeeded(tool.run("remove", name))
    succeeded(tool.run("exec", *tool.options, name, "--", "sh", "-c", "echo second > /srv/kept"))
    refused(tool.run("remove", "--undo", name), 1, f"another environment {name}", f"sysenv-ns rename {name}")
    succeeded(tool.run("remove", name))
    assert _kept(tool) == [name, name]
    assert "2 environments" in tool.run("doctor").stdout
    succeeded(tool.run("remove", "--undo", name))
    assert proj.sh("cat /srv/kept") == "second\n"
    succeeded(tool.run("rename", name, f"{name}-second"))
    succeeded(tool.run("remove", "--undo", name))
    assert proj.sh("cat /srv/kept") == "kept\n"
    succeeded(tool.run("remove", name, f"{name}-second"))
    succeeded(tool.run("create", *tool.options, name))
    succeeded(tool.run("remove", "--purge", name))
    assert _kept(tool) == [f"{name}-second"]
    succeeded(tool.run("remove", "--purge"))
    assert _kept(tool) == os.listdir(tool.store / "trash") == []


@pytest.mark.modes("full")
def test_whoever_comes_next_deletes_it(proj: Environment) -> None:
    """With what only it needed; but no session of another environment waits for that."""
    tool, name = proj.tool, proj.name
    other = tool.environment(f"{name}-other")
    succeeded(tool.run("create", *tool.options, other.name))
    succeeded(tool.run("snapshot", name))
    before = set(os.listdir(tool.store / "layers"))
    succeeded(tool.run("remove", name))
    _make_due(tool)
    assert set(os.listdir(tool.store / "layers")) == before
    other.sh("true")
    assert _kept(tool) == [name]
    tool.end(other.name)
    succeeded(tool.run("create", *tool.options, name))
    assert _kept(tool) == os.listdir(tool.store / "trash") == []
    assert os.listdir(tool.store / "layers") == ["lock"]


@pytest.mark.modes("full")
def test_it_need_not_be_kept(proj: Environment) -> None:
    """As config.toml says; a throwaway environment never is."""
    tool, name = proj.tool, proj.name
    path = tool.account.home / ".config" / "sysenv-ns" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("keep-removed = 0\n")
    try:
        assert succeeded(tool.run("remove", name)).stderr == f"sysenv-ns: removed {name}\n"
        assert _kept(tool) == []
        succeeded(tool.run("create", *tool.options, name))
        path.write_text("keep-removed = 72\n")
        assert "to undo this within 3 days" in succeeded(tool.run("remove", name)).stderr
    finally:
        path.unlink()
    succeeded(tool.run("exec", "--ephemeral", "--on-disk", *tool.options, "--", "true"))
    succeeded(tool.run("list"))
    assert _kept(tool) == [name]


@pytest.mark.modes("full", more=("root",))
def test_links_are_made_again(proj: Environment) -> None:
    """Those that can be; what cannot is told, and where it should be nothing is replaced."""
    tool, name = proj.tool, proj.name
    wrapper = tool.account.home / ".local" / "bin" / "greet"
    succeeded(tool.run("link", name, "greet"))
    before = wrapper.read_bytes()
    succeeded(tool.run("remove", name))
    assert not wrapper.exists()
    assert f"linked {wrapper}" in succeeded(tool.run("remove", "--undo")).stderr
    assert wrapper.read_bytes() == before
    succeeded(tool.run("remove", name))
    wrapper.write_text("mine")
    assert f"{wrapper} already exists" in succeeded(tool.run("remove", "--undo")).stderr
    assert wrapper.read_text() == "mine"
    assert [(shown["command"], shown["intact"]) for shown in tool.status(name)["links"]] == [("greet", False)]


@pytest.mark.modes("full")
def test_killed_at_any_moment(proj: Environment) -> None:
    """It is there, or it can be restored, and whole."""
    tool, name = proj.tool, proj.name
    succeeded(tool.run("snapshot", name))
    for number in range(7):
        verb = ("remove", "--undo") if _kept(tool) else ("remove", name)
        process = tool.start(*verb)
        time.sleep(0.03 * (number + 1))
        os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        assert [one for one in tool.names() if one == name] + _kept(tool) == [name], verb
    if _kept(tool):
        succeeded(tool.run("remove", "--undo"))
    assert proj.sh("cat /srv/kept") == "kept\n"


@pytest.mark.modes("full")
def test_several_at_once(proj: Environment) -> None:
    """Of several that remove or restore one does so."""
    tool, name = proj.tool, proj.name
    succeeded(tool.run("snapshot", name))
    for verb in (("remove", name), ("remove", "--undo", name)) * 2:
        results = [finish(process) for process in [tool.start(*verb) for _ in range(4)]]
        assert sorted(result.returncode for result in results) == [0, 1, 1, 1], [*map(describe, results)]
    mixed = [("remove", name), ("remove", "--undo", name), ("create", *tool.options, f"{name}-x"), ("list", "--size")]
    results = [finish(process) for process in [tool.start(*verb) for verb in mixed]]
    assert all("Traceback" not in result.stderr for result in results)
    if name in _kept(tool):
        succeeded(tool.run("remove", "--undo", name))
    assert proj.sh("cat /srv/kept") == "kept\n"
    tool.end(f"{name}-x")


@pytest.mark.modes("sudo")
def test_what_root_keeps(proj: Environment) -> None:
    """It stays where nobody else can write, is listed with the rest, and root has it back or deletes it."""
    tool, name = proj.tool, proj.name
    said = succeeded(tool.run("remove", name)).stderr
    assert f"removed {name}; to undo this within a day: sysenv-ns remove --undo {name}" in said
    assert _kept(tool) == [name]
    (found,) = json.loads(succeeded(tool.run("list", "--removed", "--size", "--json")).stdout)["removed"]
    assert Path(found["path"]).lstat().st_uid == 0
    assert found["size"] is None
    said = succeeded(tool.run("remove", "--undo")).stderr
    assert "continuing with sudo" in said
    assert f"restored {name}" in said
    assert proj.sh("cat /srv/kept") == "kept\n"
    succeeded(tool.run("remove", name))
    assert "deleted undone" in succeeded(tool.run("remove", "--purge", name)).stderr
    assert _kept(tool) == []
