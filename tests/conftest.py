"""The option of the integration tests: pytest asks for options before it looks into directories below this one."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The driver of the environments that ordinary users make."""
    help_ = "run all tests with this driver that can be run with it (stub)"
    parser.addoption("--driver", choices=("stub", "reflink", "copy", "fuse", "root"), default="stub", help=help_)
