"""helpers/bench: each row can be measured; what it says of a machine that does other things is of no interest."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.rows import ROWS

from .support import ROOT_RUN, Tool, describe, fits_in_memory, ran

_LIMIT = 900.0  # seconds
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


@pytest.mark.slow
@pytest.mark.modes("full", more=("single",))
def test_each_row(tool: Tool, cache: Path) -> None:
    command = ["/usr/bin/python3", str(tool.launcher.with_name("bench")), "--once", "--rows", ",".join(ROWS)]
    result = ran(command, limit=_LIMIT, cwd=tool.account.home, env=tool.variables(), **tool.account.become())
    assert result.returncode == 0, describe(result)
    assert " failed: " not in result.stdout, describe(result)
    assert len(result.stdout.splitlines()) > len(ROWS), describe(result)
    assert not list(cache.glob("sysenv-ns-bench.*"))
