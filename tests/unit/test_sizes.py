"""files/sizes.py: what is counted of trees, once or for each name, on disk or as content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.files import sizes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two files of a million bytes, one of them with a second name, a link to a large file, and a sparse file."""
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (top / name).write_bytes(os.urandom(1_000_000))
    os.link(top / "a", top / "inner/a2")
    (top / "link").symlink_to("/proc/kcore")
    with (top / "sparse").open("wb") as stream:
        stream.truncate(50_000_000)
    return top


def test_on_disk(tree: Path) -> None:
    """Each name counts, holes do not."""
    assert 3_000_000 <= sizes.on_disk(tree) < 4_000_000
    assert 1_000_000 <= sizes.on_disk(tree / "a") < 1_100_000
    assert sizes.on_disk(tree / "none") == 0


def test_on_disk_once(tree: Path) -> None:
    """A file counts in the first group that has one of its names."""
    first, second, third = sizes.on_disk_once([[str(tree / "inner")], [str(tree), str(tree)], [str(tree / "none")]])
    assert 2_000_000 <= first < 2_500_000
    assert second < 500_000
    assert third == 0
    with pytest.raises(NotADirectoryError):
        sizes.on_disk_once([[str(tree / "a")]])


def test_of_contents(tree: Path) -> None:
    """Holes count, and nothing of a directory that is left out."""
    link = len("/proc/kcore")
    assert sizes.of_contents(str(tree)) == 53_000_000 + link
    assert sizes.of_contents(str(tree), {str(tree / "inner")}) == 51_000_000 + link
    assert sizes.of_contents(str(tree / "none")) == 0
