"""What diff compares, as long as nothing has to be mounted for that; with the driver root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from sysenv_ns.diff import difference
from sysenv_ns.environment import history
from sysenv_ns.environment.store import Store

from .samples import add_environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the driver root is root's")


@pytest.mark.parametrize("function", ["find", "contents"])
def test_what_is_frozen_before_the_lock_is_had(store: Store, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """Another command has finished while this one waited: what there is now counts."""
    environment = add_environment(store, "proj", None, "root")
    (environment.upper / "srv").mkdir()
    (environment.upper / "srv/own").write_text("own")
    before = difference.find(store, "proj")
    assert "/srv/own" in {change.path for change in before.changes}
    lock = Store.lock

    @contextlib.contextmanager
    def late(self: Store, name: str) -> Iterator[None]:
        monkeypatch.setattr(Store, "lock", lock)
        history.snapshot(store, "proj", "one")
        with lock(self, name):
            yield

    monkeypatch.setattr(Store, "lock", late)
    if function == "find":
        assert difference.find(store, "proj").changes == before.changes
    else:
        assert "own" in {contents.new for contents in difference.contents(store, before)}
