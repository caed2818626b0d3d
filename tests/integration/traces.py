"""What a test has left in the homes of the users goes with it, so that another one finds them as they were. A plugin.

What a fixture of a file or of the whole run has made stays, as it was there before the test.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from .support import ROOT_RUN, Account, Tool


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of the users that exist for the tests; as anybody else, the home is that person's own."""
    if not ROOT_RUN or "users" not in request.fixturenames:
        yield
        return
    users: dict[str, Account] = request.getfixturevalue("users")
    tools: dict[str, Tool] = request.getfixturevalue("tools") if "tools" in request.fixturenames else {}
    stores = {str(tool.store) for tool in tools.values()}  # made by the first command
    before = {str(account.home): set(os.listdir(account.home)) for account in users.values()}
    yield
    for home, names in before.items():
        left = {f"{home}/{name}" for name in {*os.listdir(home)} - names} - stores
        if left:
            subprocess.run(["rm", "-rf", *left], check=True, timeout=300)
