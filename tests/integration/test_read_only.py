"""A store that cannot be written: what only looks at environments works, what changes them says why it cannot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .machines import Machine
from .support import Environment, Tool, refused, succeeded

pytestmark = pytest.mark.modes("full", "single", "root")

_MOUNT = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
_CHANGES = "echo new > /usr/local/new; echo changed >> /etc/motd; rm /usr/share/doc/bash/copyright || :"


@pytest.fixture(scope="module")
def changed(shared_machine: Machine) -> Machine:
    """One with changes and a snapshot, for all tests of this file: none of them can change it."""
    environment, tool = shared_machine.environment, shared_machine.tool
    environment.sh(_CHANGES)
    succeeded(tool.run("snapshot", environment.name, "one"))
    environment.sh("echo newer > /usr/local/newer")
    return shared_machine


@pytest.fixture(scope="module", params=["mount", "permissions"])
def closed(request: pytest.FixtureRequest, changed: Machine) -> Iterator[Environment]:
    """Its environment in a store that cannot be written meanwhile."""
    environment, tool = changed.environment, changed.tool
    if request.param == "mount" or tool.account.uid == 0:  # root can write whatever the permissions are
        closing = ("unshare", "--mount", "sh", "-ec", _MOUNT, "sh", str(tool.store), *tool.account.setpriv())
        yield Environment(replace(tool, prefix=(*changed.prefix, *closing)), environment.name)
        return
    places = (tool.store, tool.store / "envs", tool.store / "layers", tool.store / "trash")
    files = _files(tool, environment.name)
    modes = {path: path.stat().st_mode & 0o7777 for path in (*places, *files)}
    try:
        for path, mode in modes.items():
            path.chmod(mode & 0o555)
        yield environment
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def _files(tool: Tool, name: str) -> list[Path]:
    directory = tool.store / "envs" / name
    return [directory, *(path for path in directory.iterdir() if path.is_file()), tool.store / "layers" / "lock"]


def _listing(tool: Tool) -> str:
    command = ("find", str(tool.store), "-not", "-path", "*/base/*", "-printf", "%p %m %s %T@ %C@\n")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_what_looks_works_and_leaves_nothing(closed: Environment, tmp_path: Path) -> None:
    tool, name = closed.tool, closed.name
    before = _listing(tool)
    assert name in succeeded(tool.run("list")).stdout
    assert name in tool.names()
    assert tool.status(name)["snapshots"] == ["one"]
    assert "/usr/local/newer" in succeeded(tool.run("diff", name)).stdout
    assert "+changed" in succeeded(tool.run("diff", name, "--", "/etc/motd")).stdout
    assert "one" in succeeded(tool.run("history", name)).stdout
    assert "/usr/local/newer" in succeeded(tool.run("freeze", name)).stdout
    file = Path("/tmp") / f"{tmp_path.name}-{os.getpid()}-{name}.tar.zst"
    try:
        succeeded(tool.run("export", name, str(file)))
        assert file.stat().st_size > 100
    finally:
        file.unlink(missing_ok=True)
    assert _listing(tool) == before


@pytest.mark.parametrize(
    "command",
    [
        ("exec", "NAME", "--", "true"),
        ("exec", "new", "--", "true"),
        ("create", "new"),
        ("snapshot", "NAME"),
        ("snapshot", "--delete", "NAME", "one"),
        ("rollback", "NAME", "one"),
        ("clone", "NAME", "new"),
        ("remove", "NAME"),
        ("link", "NAME", "sh"),
        ("export", "--format", "oci", "NAME", "/tmp/never.tar"),
    ],
    ids=" ".join,
)
def test_what_changes_says_why_it_cannot(closed: Environment, command: tuple[str, ...]) -> None:
    arguments = [closed.name if word == "NAME" else word for word in command]
    result = closed.tool.run(*arguments)
    refused(result, 125 if command[0] == "exec" else 1)
    assert "EROFS" in result.stderr or "EACCES" in result.stderr, result.stderr
    assert "sudo" not in result.stderr
    assert not Path("/tmp/never.tar").exists()
