"""The books of the base: which trees are out of date, and where layers lie."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from sysenv_ns import policy
from sysenv_ns.drivers import driver
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.host import signs
from sysenv_ns.host.index import Index
from sysenv_ns.host.layout import LayerPlan, Tree
from sysenv_ns.host.signs import signature
from sysenv_ns.kernel import idmap
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import base, books, places, upkeep
from sysenv_ns.lower.base import Base, Wishes
from sysenv_ns.lower.renewal import Renewal
from sysenv_ns.policy import TreePolicy

from . import trees
from .samples import FULL, SINGLE, add_environment, host

POLICY = TreePolicy(weight=1)
STUBS = TreePolicy(weight=1, watch_stubs=True)


def tree(path: str, policy: TreePolicy = POLICY) -> Tree:
    return Tree(path, policy, frozenset({f"{path}/stop", f"{path}/other"}), frozenset({"/"}))


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "stubs-1"
    path.mkdir()
    return path


def describe(layer: Path, tree: Tree, roots: tuple[str, ...], *watched: Path, stubs: tuple[Path, ...] = ()) -> Path:
    """Write the two files of a tree as a build leaves them; returns the description."""
    index = Index()
    index.roots = list(roots)
    index.watched = {str(path): signs.current(str(path)) for path in watched}
    index.stubs = {str(path): signature(path.stat()) for path in stubs}
    books.write(layer, tree, index, ())
    return layer / f"{books.slug(tree)}.json"


def stale_trees(plan: LayerPlan, layer: Path | None) -> list[str]:
    return [work.tree.path for work in upkeep.examine(plan, layer, thorough=False).works]


def test_a_tree_holds_while_nothing_changes(layer: Path, host_file: Path) -> None:
    describe(layer, tree("/usr"), ("/usr",), host_file, host_file.parent / "absent")
    assert books.holds(layer, tree("/usr"))


@pytest.mark.parametrize("change", ["content", "removed", "replaced", "appeared", "mode"])
def test_a_tree_does_not_hold_when_what_it_watches_changes(layer: Path, host_file: Path, change: str) -> None:
    absent = host_file.parent / "absent"
    describe(layer, tree("/usr"), ("/usr",), host_file, absent)
    if change == "content":
        host_file.write_text("changed!!")
    elif change == "removed":
        host_file.unlink()
    elif change == "replaced":
        host_file.rename(host_file.parent / "old")
        host_file.write_text("as it was")
    elif change == "appeared":
        absent.touch()
    else:
        host_file.chmod(0o600)
    assert not books.holds(layer, tree("/usr"))


@pytest.mark.parametrize(("policy", "holds"), [(POLICY, True), (STUBS, False)])
def test_data_behind_stubs_counts_where_the_policy_says_so(
    layer: Path, host_file: Path, policy: TreePolicy, holds: bool
) -> None:
    describe(layer, tree("/var", policy), (), stubs=(host_file,))
    assert books.holds(layer, tree("/var", policy))
    host_file.write_text("longer than before")
    assert books.holds(layer, tree("/var", policy)) is holds


@pytest.mark.parametrize("field", ["stops", "blocked"])
def test_a_tree_does_not_hold_when_the_plan_differs(layer: Path, field: str) -> None:
    describe(layer, tree("/usr"), ())
    changes: dict[str, frozenset[str]] = {field: frozenset({"/usr/mount"})}
    assert not books.holds(layer, dataclasses.replace(tree("/usr"), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", bytes(20), b'{"version": 1}', b'"\xff"'])
def test_a_damaged_description_does_not_hold(layer: Path, content: bytes) -> None:
    describe(layer, tree("/usr"), ("/usr",)).write_bytes(content)
    assert not books.holds(layer, tree("/usr"))
    assert stale_trees(LayerPlan("stubs", (tree("/usr"),)), layer) == ["/usr"]


def test_another_version_does_not_hold(layer: Path) -> None:
    path = describe(layer, tree("/usr"), ("/usr",))
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"version": 99}))
    assert not books.holds(layer, tree("/usr"))


@pytest.mark.parametrize("policy", [POLICY, STUBS])
def test_without_its_index_a_tree_holds_until_something_changes(
    layer: Path, host_file: Path, policy: TreePolicy
) -> None:
    plan = LayerPlan("stubs", (tree("/var", policy),))
    describe(layer, tree("/var", policy), (), host_file)
    (layer / "var.index.json").unlink()
    assert stale_trees(plan, layer) == []
    host_file.unlink()
    assert [work.again for work in upkeep.examine(plan, layer, thorough=False).works] == [None]


@pytest.mark.parametrize(
    ("changed", "stale"),
    [
        ([], []),
        (["/opt"], ["/opt", "/usr", "/usr/local", "/var"]),  # the others' roots are searched after /opt's
        (["/srv"], ["/srv", "/usr", "/usr/local", "/var"]),  # it may have a root of its own now
        (["/usr"], ["/usr", "/usr/local", "/var"]),
        (["/usr/local"], ["/usr/local", "/var"]),
        (["/var"], ["/var"]),
        (["/boot"], ["/boot", "/opt", "/usr", "/usr/local", "/var"]),
    ],
)
def test_stale_trees(layer: Path, host_file: Path, changed: list[str], stale: list[str]) -> None:
    roots = {"/boot": (), "/opt": ("/opt",), "/srv": (), "/usr": ("/usr",), "/usr/local": ("/usr",), "/var": ("/var",)}
    for path, served_by in roots.items():
        describe(layer, tree(path), served_by, *([host_file] if path in changed else []))
    host_file.unlink()
    plan = LayerPlan("stubs", tuple(tree(path) for path in roots))
    assert stale_trees(plan, layer) == stale


def test_stubs_of_the_first_root_do_not_depend_on_others(layer: Path, host_file: Path) -> None:
    describe(layer, tree("/bin"), ("/usr",))
    describe(layer, tree("/opt"), ("/opt",), host_file)
    describe(layer, tree("/usr"), ("/usr",))
    host_file.unlink()
    plan = LayerPlan("stubs", (tree("/bin"), tree("/opt"), tree("/usr")))
    assert stale_trees(plan, layer) == ["/opt"]


def test_everything_is_stale_without_a_layer() -> None:
    plan = LayerPlan("stubs", (tree("/opt"), tree("/usr")))
    assert stale_trees(plan, None) == ["/opt", "/usr"]


def test_roots_are_those_of_a_tree_that_holds(layer: Path, host_file: Path) -> None:
    describe(layer, tree("/usr"), ("/usr/lib", "/opt", "/usr/bin"), host_file)
    assert books.roots(layer, tree("/usr"), watching=True) == ["/usr/lib", "/opt", "/usr/bin"]
    host_file.write_text("changed!!")
    assert books.roots(layer, tree("/usr"), watching=True) is None
    assert books.roots(layer, tree("/usr"), watching=False) == ["/usr/lib", "/opt", "/usr/bin"]
    assert books.roots(layer, tree("/opt"), watching=False) is None


@pytest.mark.parametrize("watched", [None, [], "/usr", "/usr\0", "/usr\x001 2 3", {"/usr": [1, 2, 3]}])
def test_a_damaged_description_counts_as_missing(layer: Path, watched: object) -> None:
    path = describe(layer, tree("/usr"), ("/usr",))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"watched": watched}))
    assert books.roots(layer, tree("/usr"), watching=True) is None
    assert books.load(layer, tree("/usr")) is None


def test_what_is_watched_is_read_as_it_was_written(layer: Path, host_file: Path) -> None:
    odd = host_file.with_name("a\nb \udcff")
    describe(layer, tree("/usr"), ("/usr",), host_file, odd)
    loaded = books.load(layer, tree("/usr"))
    assert loaded is not None
    assert loaded.watched == {str(host_file): signature(host_file.stat()), str(odd): None}


def base_of(store: Store, id_map: IdMap | None, driver: str = "stub", wishes: Wishes = ((), ())) -> Base:
    environment = Environment("a", "0123abcd", driver, id_map, 0.0, store.envs / "a", store.path)
    return Base(store, environment, wishes, lambda: "stub")


def test_what_bases_are_shared_by(store: Store) -> None:
    made = [base_of(store, FULL), base_of(store, SINGLE), base_of(store, None, "root"), base_of(store, FULL, "copy")]
    made += [base_of(store, FULL, wishes=wishes) for wishes in ((("/a",), ()), ((), ("/a",)), (("/a", "/b"), ()))]
    assert len({found.path for found in made}) == len(made)
    assert {found.path.parent for found in made} == {store.base}
    assert base_of(store, FULL).path == made[0].path
    assert base_of(store, FULL, wishes=(["/b", "/a"], frozenset())).path == made[-1].path


def test_the_newest_layer_is_the_one_with_the_largest_number(store: Store) -> None:
    store.prepare()
    found = base_of(store, SINGLE)
    plan = LayerPlan("stubs", ())
    with found._lock():
        assert places.current(found.path, plan) is None
        for name in ("stubs-9", "stubs-10", "stubs-x", "stubs", "top-11", "new-12"):
            (found.path / name).mkdir()
        assert places.current(found.path, plan) == found.path / "stubs-10"


def test_a_damaged_environment_does_not_keep_others_from_their_base(store: Store) -> None:
    path = add_environment(store, "damaged").path
    (path / "env.json").write_text("")
    state = {"pid": 1, "start_time": 1, "namespace": 1, "layers": ["stubs-1"]}
    (path / "state.json").write_text(json.dumps(state))
    store.prepare()
    found = base_of(store, SINGLE)
    (found.path / "stubs-1").mkdir(parents=True)
    (moved,) = Renewal(store, found.path, SINGLE, lambda: "stub", ()).put_away()
    assert moved.name.startswith("stubs-1.")


@pytest.mark.parametrize(
    ("number", "hint"), [(28, "free some space"), (122, "free some space"), (95, "user attributes"), (5, "look at")]
)
def test_a_failed_build_says_what_to_do(number: int, hint: str) -> None:
    error = base._build_error(OSError(number, "reason", "/some/file"), Path("/store"))
    assert isinstance(error, SysenvError)
    assert "/some/file" in error.message
    assert hint in error.hint


@pytest.mark.parametrize("record", ['{"version": 1, "id_map": %s}', "{", '{"version": 1, "id_map": null}', None])
def test_a_base_tells_its_id_map(store: Store, monkeypatch: pytest.MonkeyPatch, record: str | None) -> None:
    """Without a record, as of earlier versions, the owner of its files does; its name does not matter."""
    path = store.base / "stub-single-00000000"
    (path / "own-0" / "tree").mkdir(parents=True)
    if record is not None:
        (path / "own-record.json").write_text(record.replace("%s", json.dumps(asdict(FULL))))
    if record is not None and "%s" in record:
        assert base.id_map_of(path) == FULL
        return
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getuid", lambda: owner)
    found = base.id_map_of(path)
    assert found is not None
    assert found.kind == "single"
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    monkeypatch.setattr(idmap, "detect_full", lambda: FULL)
    assert base.id_map_of(path) == FULL


@pytest.mark.parametrize("name", policy.DRIVERS)
def test_who_has_a_base(store: Store, name: str) -> None:
    """Without an id map there is none, and nothing is made for an environment that is not there yet."""
    found = driver.get(name)
    assert found.name == name
    id_map = SINGLE if policy.DRIVERS[name] else None
    environment = Environment("a", "0123abcd", name, id_map, 0.0, store.envs / "a", store.path)
    assert (found.base(store, environment, ((), ())) is None) == (id_map is None)
    if id_map is None:
        found.build_base(store, environment, host("lvm"), contextlib.nullcontext)  # type: ignore[arg-type]
        assert not environment.path.exists()


def test_a_link_is_watched_by_way_of_its_directory(tmp_path: Path, layer: Path) -> None:
    source = tmp_path / "etc"
    (source / "inner").mkdir(parents=True)
    (source / "inner/file").write_text("a")
    (source / "inner/link").symlink_to("a")
    watched = dataclasses.replace(trees.tree(source), policy=policy.TREES["/etc"])

    def change_nothing() -> None:
        pass

    def replace_link() -> None:
        (source / "inner/new").symlink_to("b")
        (source / "inner/new").replace(source / "inner/link")

    changes: tuple[Callable[[], None], ...] = (
        change_nothing,
        replace_link,
        (source / "inner/link").unlink,
        lambda: edit(source),
    )
    for number, change in enumerate(changes):
        index = trees.Mirror(watched).index
        assert str(source / "inner/link") not in index.watched
        books.write(layer, watched, index, ())
        change()
        assert books.holds(layer, watched) is (number == 0)


def edit(source: Path) -> None:
    with (source / "inner/file").open("a") as stream:
        stream.write("b")
