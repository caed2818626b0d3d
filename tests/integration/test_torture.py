"""A short run of helpers/torture in each mode: it kills at random moments and checks that nothing is broken."""

from __future__ import annotations

import re
import subprocess

import pytest

from .support import IN_MEMORY, Tool, fits_in_memory

_LIMIT = 500.0  # seconds, with what comes before the first fault and after the last one


@pytest.mark.slow
def test_faults_at_random_moments(tool: Tool) -> None:
    helpers = tool.launcher.parent
    store = IN_MEMORY if fits_in_memory(4 << 30) else tool.account.home
    options = ("--driver", "root") if tool.mode == "root" else ("--id-map", tool.mode)
    result = subprocess.run(
        ["/usr/bin/python3", str(helpers / "torture"), "--seconds", "20", "--seed", "4", "--store", store, *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=tool.account.home,
        env=tool.variables(),
        timeout=_LIMIT,
        **tool.account.become(),
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"
    faults = re.search(r"^(\d+) faults, 0 violations$", result.stdout, re.MULTILINE)
    assert faults is not None
    assert int(faults[1]) > 0, result.stdout
