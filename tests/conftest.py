"""Rules of the whole suite: its options, what --all alone runs, what no test may do, and how the run ended."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

_PLUGINS = ("workers", "watch", "fixtures", "registries", "clusters", "traces")
pytest_plugins = [f"integration.{name}" for name in _PLUGINS]
PURE = ("unit", "cli")  # directories of tests that need no namespaces
LIMIT = 900.0 * float(os.environ.get("SYSENV_SLOWNESS", "1"))  # seconds for one test: more than all it waits for
LIMIT_WHOLE = 8 * LIMIT  # the same with --all
ENDING = 300.0  # seconds that a test which was over its limit has for cleaning up
_STDERR = pytest.StashKey[int]()
# How long an example takes says something of the machine alone.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Pytest asks for options before it looks into directories below this one."""
    help_ = "run all tests with this driver that can be run with it (stub)"
    parser.addoption(
        "--driver", choices=("stub", "reflink", "idmap", "copy", "fuse", "root"), default="stub", help=help_
    )
    parser.addoption("--all", action="store_true", help="every test in all its modes, and loops at their full length")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the stderr that the tests' own output is not taken from."""
    config.stash[_STDERR] = os.dup(2)


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what --all alone runs; what takes long comes first, so that no worker is left with it in the end."""
    left_out = [item for item in items if not config.getoption("--all") and item.get_closest_marker("matrix")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    if config.getoption("--all"):  # "-m matrix" is then what it adds to the suite
        for item in items:
            if "whole" in getattr(item, "fixturenames", ()):
                item.add_marker("matrix")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:  # one that waits for ever fails, and says where it waited
        item.add_marker(pytest.mark.timeout(_limit(config)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that is over its limit and waits for ever again, while cleaning up, ends its process and says where."""
    if item.config.option.usepdb:
        return (yield)
    faulthandler.dump_traceback_later(_limit(item.config) + ENDING, exit=True, file=item.config.stash[_STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _limit(config: pytest.Config) -> float:
    return LIMIT_WHOLE if config.getoption("--all") else LIMIT


@pytest.fixture(autouse=True)
def _stays_itself(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test that calls the tool in this process finds sudo, or makes this process another program."""
    if request.path.parent.name in PURE:
        monkeypatch.setattr("sysenv_ns.sudo.find_program", lambda name: None)
        for name in ("execv", "execve"):  # all others call these
            monkeypatch.setattr(os, name, _of_children(getattr(os, name)))


def _of_children(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for the children of this process."""
    owner = os.getpid()

    def guarded(path: Any, *arguments: Any) -> Any:
        is_program = os.path.isfile(path) and os.access(path, os.X_OK)
        assert os.getpid() != owner or not is_program, f"the test would have become {path}"
        return function(path, *arguments)

    return guarded


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Tell helpers/test that pytest came to its end: a test that became another program would have ended silently."""
    mark = os.environ.get("SYSENV_TEST_ENDED")
    if mark and not hasattr(config, "workerinput"):
        Path(mark).write_text("ended\n")
