"""helpers/bench: each row can be measured; what it says of a machine that does other things is of no interest."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.rows import ROWS

from .machines import Machine
from .support import ROOT_RUN, Tool, describe, fits_in_memory, ran

_LIMIT = 900.0  # seconds
# What needs a compiler, the archives of this system or ten thousand files of it; all else can be had for less.
_OF_THIS_SYSTEM = ("compile", "apt", "copies")
_ROOM = 8 << 30  # bytes


@pytest.fixture
def cache(tool: Tool) -> Iterator[Path]:
    """Where it makes its stores, several bases large; in memory where that can be mounted."""
    path = tool.account.home / ".cache"
    path.mkdir(exist_ok=True)
    os.chown(path, tool.account.uid, tool.account.gid)
    if ROOT_RUN and fits_in_memory(_ROOM):
        options = f"uid={tool.account.uid},gid={tool.account.gid},mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "bench", path], check=True)
        yield path
        subprocess.run(["umount", "--lazy", path], check=True)
    else:
        yield path


def _measure(tool: Tool, *rows: str) -> None:
    command = ["/usr/bin/python3", str(tool.launcher.with_name("bench")), "--once", "--rows", ",".join(rows)]
    result = ran([*tool.beginning, *command], limit=_LIMIT, cwd=tool.account.home, env=tool.variables())
    assert result.returncode == 0, describe(result)
    assert " failed: " not in result.stdout, describe(result)
    assert len(result.stdout.splitlines()) > len(rows), describe(result)
    assert not list((tool.account.home / ".cache").glob("sysenv-ns-bench.*"))


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
@pytest.mark.modes("full", more=("single",))
def test_rows_of_this_system(tool: Tool) -> None:
    _measure(tool, *_OF_THIS_SYSTEM)


@pytest.mark.modes("full", more=("single",))
def test_each_other_row(request: pytest.FixtureRequest, tool: Tool) -> None:
    """On a small host, where the bases that they build are small, too; without root on this one."""
    if ROOT_RUN:
        machine: Machine = request.getfixturevalue("machine")
        if program := shutil.which("zstd"):
            shutil.copy(program, machine.root / "usr/bin")  # its libraries are there
        tool = machine.tool
    _measure(tool, *(row for row in ROWS if row not in _OF_THIS_SYSTEM))
