"""Which part of a tree is mirrored again, and that the result is what a new mirror is."""

from __future__ import annotations

import io
import marshal
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from sysenv_ns.host import refresh
from sysenv_ns.host.index import Again, Index
from sysenv_ns.host.layout import Tree
from sysenv_ns.host.walk import Batch, Walk
from sysenv_ns.kernel import idmap, namespace
from sysenv_ns.lower import mirror
from sysenv_ns.lower.mirror import Writer

from .changes import Changes
from .samples import SINGLE
from .trees import tree

LARGE = b"large" * 2000
_FURTHER = range(16, 40)  # seeds


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    for name in ("one/inner", "two", "three"):
        (path / name).mkdir(parents=True)
    for name in ("one/small", "two/small", "one/inner/small"):
        (path / name).write_text(name)
    (path / "one/large").write_bytes(LARGE)
    return path


class Kept:
    """A mirror that is kept in step with its source."""

    def __init__(self, source: Path, target: Path, first_root: Path | None = None) -> None:
        self.tree = tree(source)
        self.target = target
        self._first = [str(first_root)] if first_root else []
        self.index = Index(self._first)
        target.mkdir()
        self._write(Walk(self.tree, SINGLE, "stub", self.index, lambda _: None).batches())

    def refresh(self, thorough: bool = False) -> Again:
        """Bring it up to date; gives what has been read again."""
        again = refresh.look(self.tree, self.index, thorough)
        assert again is not None
        index = Index(self._first)
        for root in self.index.roots:
            index.use(root)
        again = refresh.spread(again, self.tree, index)
        refresh.carry(again, index)
        self._write(Walk(self.tree, SINGLE, "stub", index, lambda _: None, again).batches())
        self.index = index
        return again

    def clone(self, target: Path) -> None:
        """Go on with a new generation."""
        target.mkdir()
        source, self.target = self.target, target
        _as_root(lambda: mirror.clone(str(source), str(target), ()))

    def _write(self, batches: Iterable[Batch]) -> None:
        content = b"".join(marshal.dumps(tuple(batch)) for batch in batches)  # type: ignore[arg-type]
        stream = io.BytesIO(content + marshal.dumps(None))
        _as_root(lambda: Writer(str(self.target)).run(stream))

    @property
    def root(self) -> Path:
        """Where the mirror of the source is."""
        return self.target / self.tree.path[1:]


def _as_root(function: object) -> None:
    """In a child: the writer changes the umask and the current directory of its process."""
    assert callable(function)
    id_map = None if os.geteuid() == 0 else idmap.single(os.getuid(), os.getgid())
    namespace.run_inside(id_map, lambda: function() and None, "test-writer")


def look(root: Path, data: Path) -> dict[str, tuple[object, ...]]:
    """Everything about the files of a mirror; of a stub, the inode of the file of `data` that it names."""
    found: dict[str, tuple[object, ...]] = {}
    groups: dict[int, list[str]] = {}
    for path in (root, *sorted(root.rglob("*"))):
        status, name = path.lstat(), str(path.relative_to(root))
        content: object = None
        if stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        elif stat.S_ISREG(status.st_mode):
            groups.setdefault(status.st_ino, []).append(name)
            content = path.read_bytes()
            if "user.overlay.redirect" in os.listxattr(path):
                redirect = os.fsdecode(os.getxattr(path, "user.overlay.redirect"))
                content = Path(f"{data}{redirect}").lstat().st_ino
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        found[name] = (status.st_mode, status.st_uid, status.st_gid, size, status.st_mtime_ns, content)
    for names in groups.values():
        for name in names:
            found[name] = (*found[name], tuple(names))
    return found


def assert_as_new(kept: Kept, fresh: Path, first_root: Path | None = None) -> None:
    """The kept mirror, and what is known of it, is what a new one is."""
    source = Path(kept.tree.path)
    new = Kept(source, fresh, first_root)
    assert look(kept.root, source) == look(new.root, source)
    assert kept.index.directories == new.index.directories
    assert dict(kept.index.entries()) == dict(new.index.entries())
    assert kept.index.stubs.keys() == new.index.stubs.keys() or _same_groups(kept, new)
    assert kept.index.watched == new.index.watched
    assert kept.index.clashing == new.index.clashing


def _same_groups(one: Kept, other: Kept) -> bool:
    """Which of several names has the stub depends on the order of the walk."""
    return {tuple(s) for s in one.index.stubs.values()} == {tuple(s) for s in other.index.stubs.values()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(16), *(pytest.param(seed, marks=pytest.mark.matrix) for seed in _FURTHER)])
def test_after_any_changes_it_is_as_new(tmp_path: Path, seed: int) -> None:
    source = tmp_path / "source"
    source.mkdir()
    changes = Changes(source, seed, in_place=seed % 2 == 0)
    changes.make(30)
    kept = Kept(source, tmp_path / "mirror")
    for number in range(4):
        changes.make(8)
        if number == 2:
            kept.clone(tmp_path / "generation")
        kept.refresh(thorough=seed % 2 == 0)
        assert_as_new(kept, tmp_path / f"fresh-{number}")
        assert kept.refresh(thorough=True).changed == set()


@pytest.mark.parametrize("seed", range(10))
def test_after_any_changes_in_a_root_that_is_searched_first(tmp_path: Path, seed: int) -> None:
    for name in ("first", "source"):
        (tmp_path / name).mkdir()
    changes = Changes(tmp_path / "first", seed, in_place=False)
    changes.make(40)
    Changes(tmp_path / "source", seed + 1, in_place=False).make(40)
    kept = Kept(tmp_path / "source", tmp_path / "mirror", tmp_path / "first")
    for number in range(4):
        changes.make(20)
        kept.refresh()
        assert_as_new(kept, tmp_path / f"fresh-{number}", tmp_path / "first")


def test_only_what_changed_is_read(source: Path, tmp_path: Path) -> None:
    kept = Kept(source, tmp_path / "mirror")
    before = {path: (kept.root / path).stat().st_ctime_ns for path in ("one/large", "one/small", "two/small")}
    (source / "one/new").touch()
    assert kept.refresh().changed == {str(source / "one")}
    assert {path: (kept.root / path).stat().st_ctime_ns for path in before} == before
    (source / "one/large").write_bytes(LARGE)
    assert kept.refresh().changed == set()
    assert kept.refresh(thorough=True).changed == {str(source / "one")}
    assert (kept.root / "one/large").stat().st_ctime_ns != before["one/large"]
    assert (kept.root / "one/small").stat().st_ctime_ns == before["one/small"]


def test_names_of_one_file_go_together(source: Path, tmp_path: Path) -> None:
    os.link(source / "one/large", source / "two/link")
    kept = Kept(source, tmp_path / "mirror")
    (source / "one/large").unlink()
    assert kept.refresh().changed == {str(source / "one"), str(source / "two")}
    redirect = os.getxattr(kept.root / "two/link", "user.overlay.redirect")
    assert redirect == b"/two/link"
    os.link(source / "two/link", source / "three/link")
    assert kept.refresh().changed == {str(source / "two"), str(source / "three")}


def test_a_stub_that_clashes_now_is_copied_and_back(source: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    (first / "one").mkdir(parents=True)
    kept = Kept(source, tmp_path / "mirror", first)
    assert "user.overlay.redirect" in os.listxattr(kept.root / "one/large")
    (first / "one/large").touch()
    kept.refresh()
    assert (kept.root / "one/large").read_bytes() == LARGE
    assert kept.index.clashing == {str(source / "one/large")}
    (first / "one/large").unlink()
    kept.refresh()
    assert "user.overlay.redirect" in os.listxattr(kept.root / "one/large")


def test_an_exchanged_root_is_mirrored_as_a_whole(source: Path, tmp_path: Path) -> None:
    kept = Kept(source, tmp_path / "mirror")
    source.rename(tmp_path / "old")
    assert refresh.look(kept.tree, kept.index, thorough=False) is None
    source.symlink_to("old")
    assert refresh.look(kept.tree, kept.index, thorough=False) is None


def test_a_directory_exchanged_while_it_is_read_takes_nothing_else_along(source: Path, tmp_path: Path) -> None:
    """The mirror never gets a file below what is a symbolic link there by now."""
    kept = Kept(source, tmp_path / "mirror")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "inner").mkdir(parents=True)
    (source / "one/new").touch()
    (source / "one/inner/new").touch()
    again = refresh.look(kept.tree, kept.index, thorough=False)
    assert again is not None
    (source / "one").rename(tmp_path / "moved")
    (source / "one").symlink_to(elsewhere)
    (source / "three/new").touch()
    again = Again(again.earlier, again.directories, again.depths, {*again.changed, str(source)})
    batches = list(_walk(kept.tree, again))
    assert str(source / "one/inner")[1:] not in [batch.directory for batch in batches]
    assert str(source / "one")[1:] not in [batch.directory for batch in batches]


def _walk(tree: Tree, again: Again) -> Iterable[Batch]:
    return Walk(tree, SINGLE, "stub", Index(), lambda _: None, again).batches()


@pytest.mark.parametrize(
    ("changed", "gone", "now", "found"),
    [
        ({"/a"}, set(), {}, {"/a", "/b", "/c"}),
        ({"/b"}, set(), {}, {"/a", "/b", "/c"}),
        (set(), {"/c"}, {}, {"/a", "/b"}),
        ({"/d"}, set(), {}, {"/d"}),
        ({"/d"}, set(), {"/d": {5}}, {"/d", "/e"}),
        ({"/d"}, set(), {"/d": {1}}, {"/a", "/b", "/c", "/d"}),
        ({"/d"}, {"/e"}, {"/d": {5}}, {"/d"}),
    ],
)
def test_linked(changed: set[str], gone: set[str], now: dict[str, set[int]], found: set[str]) -> None:
    inodes = {"/a/1": 1, "/b/1": 1, "/b/2": 2, "/c/2": 2, "/d/3": 3, "/d/4": 3, "/e/5": 5}
    entries = [(path, [0, 0, inode]) for path, inode in inodes.items()]
    assert refresh.linked(changed, gone, entries, lambda directory: now.get(directory, set())) == found
