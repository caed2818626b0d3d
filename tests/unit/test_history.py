"""Throwaway clones: what they share and what not, and what is freed after them; with the driver root."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from sysenv_ns import lifecycle, remains
from sysenv_ns.environment import directory, ephemeral, history, throwaway
from sysenv_ns.environment.description import Environment, write_description
from sysenv_ns.environment.store import Store
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
    brief = f"ephemeral-{os.getpid()}"
    for name in (brief, "ephemeral-4194305"):  # no process can have that number
        history.clone(store, "source", name, "disk")
    lifecycle.remove(store, "source")
    assert store.names() == [brief]  # the other one has ended
    assert len(_layers(store)) == 1
    lifecycle.remove(store, brief)
    assert store.names() == _layers(store) == []


def test_one_whose_layers_are_out_of_reach_is_deleted_too(store: Store, source: Environment) -> None:
    """A disk with a shared store may be gone by the time that somebody looks."""
    made = history.clone(store, "source", "ephemeral-4194305", "memory")
    write_description(made.path, replace(made, shared=store.path / "gone"))
    with pytest.raises(SysenvError, match="has lost its files"):
        store.load(made.name)
    remains.remove(store)
    assert store.names() == ["source"]
    assert list(store.trash.iterdir()) == []


def test_what_is_frozen_already_is_not_frozen_again(store: Store, source: Environment) -> None:
    assert throwaway.on_top(store, "source", "ephemeral-1") is None  # first it has to be
    assert (_layers(store), store.names()) == ([], ["source"])
    history.clone(store, "source", "ephemeral-1", "memory")
    before = store.load("source")
    made = throwaway.on_top(store, "source", "ephemeral-2")
    assert made is not None
    assert made == store.load("ephemeral-2")
    assert (made.layers, made.ephemeral, made.snapshots) == (before.layers, "memory", ())
    assert store.load("source") == before
    assert (made.path / "config.toml").exists()
    assert not (made.path / "links.json").exists()
    assert list(made.upper.iterdir()) == []  # it is made in memory, with what it begins with
    with pytest.raises(SysenvError, match="it is a throwaway environment"):
        throwaway.on_top(store, "ephemeral-2", "ephemeral-3")


def test_those_that_have_left_little_are_deleted_together(store: Store, source: Environment) -> None:
    first = history.clone(store, "source", "ephemeral-4194305", "memory")
    others = [throwaway.on_top(store, "source", f"ephemeral-{4194306 + number}") for number in range(14)]
    assert None not in others
    assert len(store.names()) == 16
    (first.upper / "new").touch()  # as where file systems in memory can have no upper directory
    assert ephemeral.are_in_the_way(store)
    (first.upper / "new").unlink()
    assert not ephemeral.are_in_the_way(store)
    history.clone(store, "source", "ephemeral-5000000", "disk")
    assert ephemeral.are_in_the_way(store)  # its changes may be large
    remains.remove(store)
    assert store.names() == ["source"]


def test_which_were_never_started(store: Store, source: Environment) -> None:
    made = history.clone(store, "source", "ephemeral-1", "memory")
    assert ephemeral.was_never_started(made)
    (made.path / directory.MEMORY).mkdir()
    assert not ephemeral.was_never_started(made)
    assert not ephemeral.was_never_started(history.clone(store, "source", "ephemeral-2", "disk"))
    assert not ephemeral.was_never_started(source)


def test_throwaway_environments_are_no_sources(store: Store, source: Environment) -> None:
    history.clone(store, "source", "ephemeral-1", "disk")
    for place in (None, "disk"):
        with pytest.raises(SysenvError, match="it is a throwaway environment"):
            history.clone(store, "ephemeral-1", "other", place)
    with pytest.raises(SysenvError, match="is the name of a throwaway environment"):
        history.clone(store, "source", "ephemeral-2")
    assert store.names() == ["ephemeral-1", "source"]
