"""Fixtures that several unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from sysenv_ns.environment.store import Store

# No database: whoever runs the tests may be unable to write here. No deadline: machines differ.
settings.register_profile("everywhere", database=None, deadline=None)
settings.load_profile("everywhere")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that is not made yet."""
    return Store(tmp_path / "store")


@pytest.fixture
def host_file(tmp_path: Path) -> Path:
    """A file that a base watches."""
    path = tmp_path / "host-file"
    path.write_text("as it was")
    return path
