"""helpers/torture, which kills at random moments and checks that nothing is broken: short, and longer with --all."""

from __future__ import annotations

import re

import pytest

from .support import IN_MEMORY, Tool, fits_in_memory, ran

_LIMIT = 500.0  # seconds for what comes before the first fault and after the last one


@pytest.mark.slow
@pytest.mark.modes("full", more=("single", "root"))
def test_faults_at_random_moments(tool: Tool, whole: bool) -> None:
    seconds = 180 if whole else 20
    helpers = tool.launcher.parent
    store = IN_MEMORY if fits_in_memory(4 << 30) else tool.account.home
    options = ("--driver", "root") if tool.mode == "root" else ("--id-map", tool.mode)
    command = ["/usr/bin/python3", str(helpers / "torture"), "--seconds", str(seconds), "--seed", "4"]
    result = ran(
        [*command, "--store", str(store), *options],
        limit=_LIMIT + seconds,
        cwd=tool.account.home,
        env=tool.variables(),
        **tool.account.become(),
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"
    faults = re.search(r"^(\d+) faults, 0 violations$", result.stdout, re.MULTILINE)
    assert faults is not None
    assert int(faults[1]) > 0, result.stdout
