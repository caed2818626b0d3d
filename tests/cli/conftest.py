"""A store in a temporary directory, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sysenv_ns.cli import main
from sysenv_ns.store import Environment, Store

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that the command line uses; it is not made yet."""
    monkeypatch.setenv("SYSENV_NS_HOME", str(tmp_path / "store"))
    monkeypatch.delenv("SYSENV_NS", raising=False)
    return Store(tmp_path / "store")


@pytest.fixture
def environments(store: Store) -> Store:
    """A store with the environments `damaged` (its env.json is empty) and `whole`."""
    store.prepare()
    for name in ("damaged", "whole"):
        staging = store.trash / name
        (staging / "upper").mkdir(parents=True)
        store.add(Environment(name, "0", "root", None, 1_700_000_000.0, store.envs / name), staging)
    (store.envs / "damaged" / "env.json").write_text("")
    return store


@pytest.fixture
def run(store: Store) -> Run:
    """Runs the command line; what it raises beside SystemExit fails the test."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    return invoke
