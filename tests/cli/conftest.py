"""A store in a temporary directory, and the command line as a function."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sysenv_ns.cli import main
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.kernel import idmap

Run = Callable[..., Result]
# Until click 8.2 the streams were one unless this was said; since then nobody can say it.
_SEPARATE: Any = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that the command line uses; it is not made yet."""
    monkeypatch.setenv("SYSENV_NS_HOME", str(tmp_path / "store"))
    monkeypatch.delenv("SYSENV_NS", raising=False)
    return Store(tmp_path / "store")


@pytest.fixture
def environments(store: Store) -> Store:
    """A store with the environments `damaged` (its env.json is empty) and `whole`, which is the caller's own."""
    store.prepare()
    only_me = idmap.single(os.getuid(), os.getgid())
    for name in ("damaged", "whole"):
        staging = store.trash / name
        (staging / "upper").mkdir(parents=True)
        place = store.envs / name
        store.add(Environment(name, "0", "stub", only_me, 1_700_000_000.0, place, store.path), staging)
    (store.envs / "damaged" / "env.json").write_text("")
    return store


@pytest.fixture
def run(store: Store) -> Run:
    """Runs the command line; what it raises beside SystemExit fails the test."""

    def invoke(*arguments: str) -> Result:
        return CliRunner(**_SEPARATE).invoke(main, arguments, catch_exceptions=False)

    return invoke
