"""Throwaway clones: what they share and what not, and what is freed after them; with the driver root."""

from __future__ import annotations

import os

import pytest

from sysenv_ns import lifecycle, remains
from sysenv_ns.environment import history
from sysenv_ns.environment.store import Environment, Store
from sysenv_ns.errors import SysenvError

from .samples import add_environment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the driver root is root's")


@pytest.fixture
def source(store: Store) -> Environment:
    """An environment with changes, a link and a configuration."""
    environment = add_environment(store, "source", None, "root")
    for name, content in (("upper/changed", ""), ("config.toml", ""), ("links.json", '{"version": 1, "links": []}')):
        (environment.path / name).write_text(content)
    return environment


def _layers(store: Store) -> list[str]:
    return sorted(path.name for path in store.layers.iterdir() if path.is_dir())


def test_a_throwaway_clone_shares_the_layers_alone(store: Store, source: Environment) -> None:
    history.snapshot(store, "source", "one")
    (source.upper / "later").write_text("")
    made = history.clone(store, "source", "ephemeral-1", "memory")
    assert made == store.load("ephemeral-1")
    assert (made.ephemeral, made.snapshots) == ("memory", ())
    now = store.load("source")
    assert (now.ephemeral, made.layers) == (None, now.layers)
    assert len(made.layers) == 2
    assert [snapshot.label for snapshot in now.snapshots] == ["one"]  # none was added
    names = {path.name for path in made.path.iterdir()}
    assert "config.toml" in names
    assert "links.json" not in names
    assert (source.path / "links.json").exists()


def test_a_source_without_changes_stays_what_it_is(store: Store, source: Environment) -> None:
    history.clone(store, "source", "ephemeral-1", "disk")
    frozen, ident = _layers(store), source.path.stat().st_ino
    assert len(frozen) == 1
    history.clone(store, "source", "ephemeral-2", "disk")
    assert (_layers(store), source.path.stat().st_ino) == (frozen, ident)


def test_layers_are_freed_after_the_last_that_needs_them(store: Store, source: Environment) -> None:
    history.clone(store, "source", "ephemeral-4194305", "disk")  # no process can have that number
    lifecycle.remove(store, "source")
    assert len(_layers(store)) == 1
    remains.remove(store)
    assert store.names() == _layers(store) == []


def test_throwaway_environments_are_no_sources(store: Store, source: Environment) -> None:
    history.clone(store, "source", "ephemeral-1", "disk")
    for throwaway in (None, "disk"):
        with pytest.raises(SysenvError, match="it is a throwaway environment"):
            history.clone(store, "ephemeral-1", "other", throwaway)
    with pytest.raises(SysenvError, match="is the name of a throwaway environment"):
        history.clone(store, "source", "ephemeral-2")
    assert store.names() == ["ephemeral-1", "source"]
