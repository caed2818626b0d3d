"""A short run of the fault test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .support import BASE_LIMIT, Tool, describe

_SECONDS = 20
_LIMIT = 2 * BASE_LIMIT  # making and deleting a base come on top


@pytest.mark.modes("full", "single")
def test_short_torture(tool: Tool) -> None:
    helper = tool.launcher.parent / "torture"
    options = ("--seconds", str(_SECONDS), "--seed", "4", "--id-map", tool.mode, "--store", str(tool.account.home))
    result = replace(tool, launcher=helper).run(*options, limit=_LIMIT)
    assert result.returncode == 0, describe(result)
