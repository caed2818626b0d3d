"""Removed environments: which there are, in which order, and what they keep from being deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns import lifecycle
from sysenv_ns.environment import layers, removed
from sysenv_ns.environment.description import Environment, Snapshot
from sysenv_ns.environment.removed import Removed
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import NameTaken, SysenvError
from sysenv_ns.kernel import idmap
from sysenv_ns.packages import origin
from sysenv_ns.packages.origin import Origin

_LAYERS = ("0123456789abcdef", "fedcba9876543210")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with an environment `proj` that has a frozen layer, and a snapshot with another one."""
    found = Store(tmp_path / "store")
    found.prepare()
    for ident in _LAYERS:
        (found.layers / ident / "upper").mkdir(parents=True)
    snapshots = (Snapshot("one", 1.0, _LAYERS[1:], "proj"),)
    only_me = idmap.single(os.getuid(), os.getgid())
    path = found.envs / "proj"
    environment = Environment("proj", "1", "stub", only_me, 1.0, path, found.path, _LAYERS[:1], snapshots)
    staging = found.trash / "proj"
    (staging / "upper").mkdir(parents=True)
    found.add(environment, staging)
    return found


def _removed(store: Store, name: str, hours: int = 1) -> Removed:
    found = removed.new(store.removed, name, hours)
    (store.envs / name).rename(found.path)
    return found


def test_the_last_one_is_at_the_end(tmp_path: Path) -> None:
    names = ("a.b-c@1000000000-3", "a@3000000000-4", "a@2000000000-9", "b@1500000000-2")
    others = ("a", "@1-2", ".a@1-2", "a@1", "a@x-2", "a@1-2.new", "a/b@1-2", f"{'x' * 101}@1-2")
    for name in (*names, *others):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link@1-2").symlink_to(tmp_path / names[0])
    (tmp_path / "file@1-2").touch()
    found = removed.all_of(tmp_path, tmp_path / "missing")
    assert [(one.name, one.removed, one.until) for one in found] == [
        ("a.b-c", 1.0, 3.0),
        ("b", 1.5, 2.0),
        ("a", 2.0, 9.0),
        ("a", 3.0, 4.0),
    ]
    assert all(one.is_due for one in found)
    assert [removed.last(found, name) for name in ("a", "b", "c", None)] == [found[3], found[1], None, found[3]]
    assert removed.last([]) is None


def test_a_name_tells_all(tmp_path: Path) -> None:
    for hours in (1, 24):
        new = removed.new(tmp_path, "a.b-c", hours)
        new.path.mkdir()
        assert removed.all_of(tmp_path)[-1] == new
        assert 3600 * hours - 1 <= new.until - new.removed <= 3600 * hours
        assert not new.is_due


def test_what_it_needs_is_kept(store: Store) -> None:
    needed = [_LAYERS[:1], _LAYERS[1:]]
    assert layers.needed(store) == needed
    assert layers.needed(store, but="proj") == []
    found = _removed(store, "proj")
    assert layers.needed(store) == needed
    assert layers.needed(store, but="proj") == needed  # another one of that name
    (found.path / "env.json").write_text("{")
    assert layers.needed(store) is None


def test_its_origin_is_kept(store: Store) -> None:
    origin.write(store.envs / "proj", Origin("1a", "2b"))
    for key in ("1a", "2b", "3c"):
        (store.path / "origins" / key).mkdir(parents=True)
        os.utime(store.path / "origins" / key, (0, 0))
    _removed(store, "proj")
    origin.collect(store)
    assert sorted(os.listdir(store.path / "origins")) == ["1a", "2b"]


def test_restored(store: Store) -> None:
    (store.envs / "proj" / "upper" / "file").write_text("first")
    first = _removed(store, "proj")
    with pytest.raises(SysenvError, match="there is no removed environment other to restore") as failure:
        lifecycle.restore(store, "other")
    assert failure.value.hint == "these can be: proj"
    assert lifecycle.restore(store, None).name == "proj"
    second = _removed(store, "proj")
    (store.envs / "proj").mkdir()
    with pytest.raises(NameTaken, match="there is another environment proj now"):
        lifecycle.restore(store, "proj")
    (store.envs / "proj").rmdir()
    assert lifecycle.restore(store, "proj").path == store.envs / "proj"
    assert (store.envs / "proj" / "upper" / "file").read_text() == "first"
    assert os.listdir(store.removed) == []
    assert first.removed < second.removed


def test_a_damaged_one_takes_no_name(store: Store) -> None:
    gone = _removed(store, "proj")
    (gone.path / "env.json").write_text("{")
    with pytest.raises(SysenvError, match=r"env.json of proj is damaged"):
        lifecycle.restore(store, "proj")
    assert (store.exists("proj"), gone.path.exists()) == (False, True)


def test_an_unknown_environment_that_was_removed(store: Store) -> None:
    _removed(store, "proj")
    assert store.unknown("proj").hint == "to restore it: sysenv-ns remove --undo proj"
    assert "create" in store.unknown("other").hint
