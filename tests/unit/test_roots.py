"""Which of very many possible data-only lowers are used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.files import removal
from sysenv_ns.host.layout import Tree
from sysenv_ns.lower.upkeep import surplus_roots
from sysenv_ns.policy import OTHER_TREES


@pytest.fixture
def split(tmp_path: Path) -> Tree:
    """A tree with a mount at inner/mount, and four more directories with 1 to 4 kB; one is another tree's."""
    (tmp_path / "inner" / "mount").mkdir(parents=True)
    for number, name in enumerate(("inner/a", "b", "c", "other"), start=1):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_bytes(bytes(1000 * number))
    blocked = {tmp_path, tmp_path / "inner", *tmp_path.parents}
    stops = {tmp_path / "inner" / "mount", tmp_path / "other"}
    return Tree(str(tmp_path), OTHER_TREES, frozenset(map(str, stops)), frozenset(map(str, blocked)))


@pytest.mark.parametrize(
    ("room", "surplus"),
    [(4, set()), (3, set()), (2, {"inner/a"}), (1, {"inner/a", "b"}), (0, {"inner/a", "b", "c"}), (-1, None)],
)
def test_the_largest_are_used(split: Tree, room: int, surplus: set[str] | None) -> None:
    expected = {"inner/a", "b", "c"} if surplus is None else surplus
    assert surplus_roots([split], room) == {f"{split.path}/{name}" for name in expected}


def test_a_tree_among_them_counts(split: Tree) -> None:
    other = Tree(f"{split.path}/other", OTHER_TREES, frozenset(), split.blocked)
    assert surplus_roots([split, other], 1) == {f"{split.path}/{name}" for name in ("inner/a", "b", "c")}


def test_what_is_gone_is_no_candidate(tmp_path: Path) -> None:
    gone = Tree(str(tmp_path / "gone"), OTHER_TREES, frozenset(), frozenset({str(tmp_path / "gone")}))
    assert surplus_roots([gone], 0) == set()


def test_a_deep_tree_is_measured(split: Tree) -> None:
    """Deeper than Python calls itself; whoever may write somewhere below can make one."""
    place = f"{split.path}/b"
    for _ in range(1200):
        place += "/d"
        os.mkdir(place)
    Path(place, "file").write_bytes(bytes(5000))
    assert surplus_roots([split], 1) == {f"{split.path}/{name}" for name in ("inner/a", "c")}
    removal.delete(Path(split.path, "b"))
