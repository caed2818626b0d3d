"""The store: names, its place, env.json whole and damaged, locks, atomic writes."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sysenv_ns.environment import directory
from sysenv_ns.environment.description import Environment, Ephemeral, Snapshot, write_description
from sysenv_ns.environment.store import Store, check_name
from sysenv_ns.errors import SysenvError
from sysenv_ns.files.replacement import write_json
from sysenv_ns.kernel.idmap import IdMap

from .forks import in_a_child
from .samples import FULL, SINGLE, add_environment

LAYERS = ("0123456789abcdef", "fedcba9876543210")


@pytest.mark.parametrize("name", ["a", "proj", "Proj-1.2_x", "_x", "0", "x" * 100, "a..b", "a-"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "-x", "a/b", "/a", "a b", "a\n", "ä", "x" * 101, "a\0", "a%", "~", "\udcff", "٣"]
)
def test_bad_names(name: str) -> None:
    with pytest.raises(SysenvError) as caught:
        check_name(name)
    assert caught.value.exit_status == 2
    assert caught.value.hint


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SYSENV_NS_HOME": "/s", "XDG_DATA_HOME": "/x", "HOME": "/h"}, "/s"),
        ({"SYSENV_NS_HOME": "/s/../t/", "HOME": "/h"}, "/t"),
        ({"SYSENV_NS_HOME": "", "XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/sysenv-ns"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/h"}, "/h/.local/share/sysenv-ns"),
        ({"XDG_DATA_HOME": "", "HOME": "/h"}, "/h/.local/share/sysenv-ns"),
        ({"HOME": "/h"}, "/h/.local/share/sysenv-ns"),
    ],
)
def test_location(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("SYSENV_NS_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert directory.store_location() == Path(expected)


def test_a_relative_location_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYSENV_NS_HOME", "here")
    assert directory.store_location() == tmp_path / "here"


def test_location_of_a_user_without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    for name in ("SYSENV_NS_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(SysenvError):
        directory.store_location()


@pytest.mark.parametrize("home", ["relative", "~", "./x"])
def test_location_of_a_home_that_is_elsewhere_each_time(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    for name in ("SYSENV_NS_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    with pytest.raises(SysenvError) as raised:
        directory.store_location()
    assert "absolute path" in raised.value.hint


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o500])
def test_prepare_keeps_everybody_else_out(store: Store, mode: int) -> None:
    store.path.mkdir()
    store.path.chmod(mode)
    store.prepare()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    assert store.envs.is_dir()


def test_prepare_makes_parents_and_can_be_repeated(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "b")
    store.prepare()
    store.prepare()
    assert {path.name for path in store.path.iterdir()} == {"base", "envs", "layers", "removed", "trash"}


def test_several_may_make_it_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            made = Store(tmp_path / str(number) / "store")
            list(pool.map(lambda _, made=made: made.prepare(), range(8)))


def test_prepare_below_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(SysenvError) as caught:
            Store(path).prepare()
        assert "SYSENV_NS_HOME" in caught.value.hint


def test_names_are_sorted_and_leave_out_what_cannot_be_one(store: Store) -> None:
    assert store.names() == []
    store.prepare()
    for name in ("b", "a", ".hidden", "with space"):
        (store.envs / name).mkdir()
    assert store.names() == ["a", "b"]


@pytest.mark.parametrize(("id_map", "driver"), [(FULL, "stub"), (SINGLE, "stub"), (None, "root")])
def test_an_environment_is_loaded_as_it_was_added(store: Store, id_map: IdMap | None, driver: str) -> None:
    environment = add_environment(store, "proj", id_map, driver)
    assert store.load("proj") == environment
    assert environment.source == "sysenv-ns:0123abcd"
    assert environment.upper == store.envs / "proj" / "upper"


def test_an_environment_without_its_files_is_damaged(store: Store) -> None:
    add_environment(store, "proj").upper.rmdir()
    with pytest.raises(SysenvError, match="lost its files") as caught:
        store.load("proj")
    assert "remove proj" in caught.value.hint


def changed(**changes: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda data: json.dumps(data | changes).encode()


def changed_map(**changes: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda data: json.dumps(data | {"id_map": data["id_map"] | changes}).encode()


DAMAGES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: json.dumps(data).encode()[:40],
    "zeros": lambda data: bytes(100),
    "not UTF-8": lambda data: b'{"version": "\xff"}',
    "a list": lambda data: b"[]",
    "a number": lambda data: b"1",
    "null": lambda data: b"null",
    "no version": lambda data: json.dumps({k: v for k, v in data.items() if k != "version"}).encode(),
    "later version": changed(version=99),
    "no driver": lambda data: json.dumps({k: v for k, v in data.items() if k != "driver"}).encode(),
    "no id map though its driver needs one": changed(id_map=None),
    "id map a text": changed(id_map="full"),
    "id map a list": changed(id_map=[]),
    "id map of another kind": changed_map(kind="other"),
    "id map without uids": changed_map(uids=None),
    "extents of numbers": changed_map(uids=[1, 2]),
    "extents with a text": changed_map(uids=[{"inside": "zero", "outside": 1, "count": 1}]),
    "extents with too much": changed_map(uids=[{"inside": 0, "outside": 1, "count": 1, "more": 1}]),
    "own uid a text": changed_map(own_uid="me"),
    "own uid infinite": changed_map(own_uid=float("inf")),
    "created a text": changed(created="yesterday"),
    "changes nowhere": changed(ephemeral="tape"),
    "created null": changed(created=None),
    "created too large": changed(created=10**400),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_description_is_an_error_with_a_hint(store: Store, damage: Callable[[dict[str, Any]], bytes]) -> None:
    path = add_environment(store, "proj").path / "env.json"
    path.write_bytes(damage(json.loads(path.read_bytes())))
    with pytest.raises(SysenvError) as caught:
        store.load("proj")
    assert "proj" in caught.value.message
    assert caught.value.hint


def test_a_missing_description_is_an_error_with_a_hint(store: Store) -> None:
    path = add_environment(store, "proj").path / "env.json"
    path.unlink()
    with pytest.raises(SysenvError, match=r"cannot be read.*ENOENT") as caught:
        store.load("proj")
    assert "remove proj" in caught.value.hint
    path.mkdir()
    with pytest.raises(SysenvError, match="EISDIR"):
        store.load("proj")


def test_an_unknown_environment_names_those_that_exist(store: Store) -> None:
    with pytest.raises(SysenvError, match="no environment absent") as caught:
        store.load("absent")
    assert "create absent" in caught.value.hint
    add_environment(store, "proj")
    with pytest.raises(SysenvError) as caught:
        store.load("absent")
    assert "proj" in caught.value.hint


@pytest.mark.parametrize("target", ["real", "nowhere"])
def test_a_symbolic_link_is_no_environment(store: Store, target: str) -> None:
    add_environment(store, "real")
    (store.envs / "link").symlink_to(target)
    assert store.exists("link")
    with pytest.raises(SysenvError, match="not a directory"):
        store.load("link")


def test_add_refuses_an_existing_name(store: Store) -> None:
    add_environment(store, "proj")
    with pytest.raises(SysenvError, match="already exists") as caught:
        add_environment(store, "proj", SINGLE)
    assert "shell proj" in caught.value.hint
    assert store.load("proj").id_map == FULL


def test_add_refuses_an_existing_empty_directory(store: Store) -> None:
    store.prepare()
    (store.envs / "proj").mkdir()
    with pytest.raises(SysenvError, match="already exists"):
        add_environment(store, "proj")


def test_add_does_not_blame_another_environment_for_other_failures(store: Store) -> None:
    store.prepare()
    staging = store.trash / "new"
    staging.mkdir()
    store.envs.rmdir()
    with pytest.raises((SysenvError, OSError)) as caught:
        store.add(Environment("proj", "0", "root", None, 0.0, store.envs / "proj", store.path), staging)
    assert "exists" not in str(caught.value)


def test_write_json_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_json(path, {"a": 1})
    write_json(path, {"path": "/odd/\udcff"})
    assert json.loads(path.read_bytes()) == {"path": "/odd/\udcff"}
    assert os.listdir(tmp_path) == ["data.json"]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_bytes()) == {"a": 1}


def test_what_a_killed_writer_leaves_goes_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.json"

    def killed() -> None:
        monkeypatch.setattr(os, "fsync", lambda descriptor: os._exit(9))
        write_json(path, {"a": 1})

    assert in_a_child(killed) == 9
    assert len(os.listdir(tmp_path)) == 1
    write_json(path, {"a": 2})
    assert os.listdir(tmp_path) == ["data.json"]


def test_a_lock_is_exclusive(store: Store) -> None:
    environment = add_environment(store, "proj")
    with store.lock("proj"), open(environment.path / "lock", "rb") as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with open(environment.path / "lock", "rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_lock_of_a_removed_environment_fails(store: Store) -> None:
    environment = add_environment(store, "proj")
    environment.path.rename(store.trash / "proj")
    with pytest.raises(SysenvError, match="no environment proj"), store.lock("proj"):
        pass


def test_a_lock_is_not_taken_through_a_symbolic_link(store: Store, tmp_path: Path) -> None:
    environment = add_environment(store, "proj")
    (environment.path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SysenvError, match="cannot be locked"), store.lock("proj"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_snapshots_and_layers_are_loaded_as_they_were_written(store: Store) -> None:
    plain = add_environment(store, "proj")
    assert json.loads((plain.path / "env.json").read_text())["version"] == 1  # an older sysenv-ns can read it
    snapshot = Snapshot("first", 1.5, (LAYERS[1],), "other", automatic=True)
    layered = replace(plain, layers=LAYERS, snapshots=(snapshot,))
    for ident in LAYERS:
        (store.layers / ident / "upper").mkdir(parents=True)
    write_description(plain.path, layered)
    assert json.loads((plain.path / "env.json").read_text())["version"] == 2  # and this one it must not
    assert store.load("proj") == layered
    assert layered.uppers() == (plain.upper, *(store.layers / ident / "upper" for ident in LAYERS))
    (store.layers / LAYERS[1] / "mounts/var/upper").mkdir(parents=True)
    place = "mounts/var/upper"
    assert layered.uppers(place) == (plain.path / place, store.layers / LAYERS[1] / place)


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_throwaway_environment_is_loaded_as_it_was_written(store: Store, place: Ephemeral) -> None:
    plain = add_environment(store, "proj")
    (store.layers / LAYERS[0] / "upper").mkdir(parents=True)
    throwaway = replace(plain, layers=LAYERS[:1], ephemeral=place)
    write_description(plain.path, throwaway)
    assert store.load("proj") == throwaway


def test_frozen_layers_of_another_store(store: Store, tmp_path: Path) -> None:
    """What a throwaway environment has below it may lie in a store that is only read."""
    plain = add_environment(store, "proj")
    shared = tmp_path / "shared"
    above = replace(plain, layers=LAYERS[:1], ephemeral="memory", shared=shared)
    write_description(plain.path, above)
    with pytest.raises(SysenvError, match="lost its files"):
        store.load("proj")
    (shared / "layers" / LAYERS[0] / "upper").mkdir(parents=True)
    assert store.load("proj") == above
    assert above.uppers() == (plain.upper, shared / "layers" / LAYERS[0] / "upper")


@pytest.mark.parametrize("kind", ["missing", "link"])
def test_an_environment_without_a_layer_is_damaged(store: Store, kind: str) -> None:
    plain = add_environment(store, "proj")
    write_description(plain.path, replace(plain, layers=LAYERS[:1]))
    if kind == "link":
        (store.layers / LAYERS[0]).symlink_to(plain.path)
    with pytest.raises(SysenvError, match="lost its files") as caught:
        store.load("proj")
    assert LAYERS[0] in caught.value.message
    assert "remove proj" in caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": ["../../etc"]},
        {"layers": [3]},
        {"layers": 3},
        {"shared": "../store"},
        {"shared": 3},
        {"snapshots": [{"label": "x"}]},
        {"snapshots": [{"label": "a/b", "created": 0, "layers": [], "environment": "a", "automatic": False}]},
        {"snapshots": [{"label": "a", "created": 0, "layers": ["x"], "environment": "a", "automatic": False}]},
    ],
)
def test_wrong_layers_are_damage(store: Store, wrong: dict[str, Any]) -> None:
    environment = add_environment(store, "proj")
    data = json.loads((environment.path / "env.json").read_text())
    (environment.path / "env.json").write_text(json.dumps(data | {"version": 2} | wrong))
    with pytest.raises(SysenvError, match=r"env\.json of proj is damaged"):
        store.load("proj")
