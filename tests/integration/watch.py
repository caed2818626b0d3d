"""The watch over the host: its system directories are after the tests what they were before. A plugin.

The process that sees the whole run watches, the controller of the workers: it looks before the first test and after
the last one has been cleared up.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from .fingerprint import Fingerprint
from .support import ROOT_RUN, ROOT_STORES
from .workers import is_worker

_WATCHED = ("tests/integration/", "tests/security/")
_BEFORE = pytest.StashKey[Fingerprint]()
_CHANGED = pytest.StashKey[list[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: pytest.Session, ids: list[str]) -> None:
    """A worker knows its tests; none runs before all workers do."""
    _begin(node.config, ids)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The same without workers."""
    if not is_worker(session.config) and not session.config.option.collectonly:
        _begin(session.config, (item.nodeid for item in session.items))


def _begin(config: pytest.Config, ids: Iterable[str]) -> None:
    if _BEFORE not in config.stash and any(name.startswith(_WATCHED) for name in ids):
        if ROOT_RUN:
            ROOT_STORES.mkdir(mode=0o755, parents=True, exist_ok=True)  # it stays
        config.stash[_BEFORE] = Fingerprint.take()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Everything that the tests have made is gone by now; whatever else has changed fails the run."""
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    session.config.stash[_CHANGED] = before.difference(Fingerprint.take().entries)
    if session.config.stash[_CHANGED]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what has changed."""
    for path in config.stash.get(_CHANGED, [])[:200]:
        terminalreporter.write_line(f"the host was changed: {path}", red=True)
