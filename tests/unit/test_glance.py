"""A glance at the base: it counts for what was seen, for a moment, and for books that are still the same."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from sysenv_ns import supervised
from sysenv_ns.environment import state
from sysenv_ns.environment.directory import STATE
from sysenv_ns.environment.store import Store
from sysenv_ns.host import signs
from sysenv_ns.lower import books, glance
from sysenv_ns.lower.glance import Glance

from .samples import add_environment
from .test_base import describe, tree


@pytest.fixture
def layer(tmp_path: Path, host_file: Path) -> Path:
    """A layer with one tree, which watches the file."""
    path = tmp_path / "stubs-1"
    path.mkdir()
    describe(path, tree("/usr"), ("/usr",), host_file)
    return path


def _seen(*layers: Path) -> Glance:
    found = glance.read(glance.look(layers))
    assert found is not None
    return found


def test_what_was_seen_is_not_looked_at_again(layer: Path, host_file: Path) -> None:
    seen = _seen(layer)
    assert seen.signs == signs.of_programs()
    host_file.write_text("changed after the glance")
    assert books.roots(layer, tree("/usr"), watching=True, seen=seen.holds) == ["/usr"]
    assert books.roots(layer, tree("/usr"), watching=True) is None


def test_what_had_changed_before_is_seen(layer: Path, host_file: Path) -> None:
    host_file.write_text("changed")
    assert books.roots(layer, tree("/usr"), watching=True, seen=_seen(layer).holds) is None


def test_it_counts_for_a_moment(layer: Path, host_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = glance.look([layer])
    seen = glance.read(data)
    assert seen is not None
    host_file.write_text("changed")
    later = time.monotonic() + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert books.roots(layer, tree("/usr"), watching=True, seen=seen.holds) is None
    assert glance.read(data) is None


def test_other_books_are_compared(layer: Path, host_file: Path, tmp_path: Path) -> None:
    """Somebody has brought the base up to date meanwhile, and then the host has changed."""
    seen = _seen(layer)
    describe(layer, tree("/usr"), ("/usr",), host_file, tmp_path)
    (tmp_path / "new").touch()
    assert books.roots(layer, tree("/usr"), watching=True, seen=seen.holds) is None


def test_another_layer_with_the_same_tree_is_compared(layer: Path, host_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "stubs-1"
    other.mkdir(parents=True)
    describe(other, tree("/usr"), ("/usr",), host_file)
    seen = _seen(layer)
    host_file.write_text("changed")
    assert books.roots(other, tree("/usr"), watching=True, seen=seen.holds) is None


def test_layers_that_are_gone_or_damaged_show_nothing(layer: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "top-1"
    damaged.mkdir()
    (damaged / "root.json").write_text("{")
    assert _seen(tmp_path / "gone", damaged).unchanged == {}


@pytest.mark.parametrize("runs", [True, False])
def test_a_base_is_looked_at_when_the_environment_does_not_run(runs: bool, layer: Path, store: Store) -> None:
    environment = add_environment(store, "proj")
    assert supervised._look(store, environment) is None  # it never did
    state.record(environment, ("stubs-1",), {}, "base-1")
    if not runs:
        with subprocess.Popen(["true"]) as ended:
            pass
        told = json.loads((environment.path / STATE).read_bytes())
        (environment.path / STATE).write_text(json.dumps({**told, "pid": ended.pid}))
    (store.base / "base-1").mkdir(parents=True)
    os.rename(layer, store.base / "base-1" / "stubs-1")
    look = supervised._look(store, environment)
    if runs:
        assert look is None
    else:
        assert look is not None
        seen = glance.read(look())
        assert seen is not None
        assert len(seen.unchanged) == 1


@pytest.mark.parametrize("data", [None, b"", b"{}", b"[]", b'{"at": 1', b'{"at": "", "signs": {}, "unchanged": {}}'])
def test_what_says_nothing(data: bytes | None) -> None:
    """As from a supervisor whose look has failed, or had more to say than one message holds."""
    assert glance.read(data) is None
