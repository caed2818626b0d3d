"""Upper directories against a host: both are small trees, and whiteouts files of fuse-overlayfs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path

import pytest

from sysenv_ns import policy
from sysenv_ns.diff import comparison
from sysenv_ns.diff.compared import ComparedPath
from sysenv_ns.diff.comparison import HostSide
from sysenv_ns.files import upper
from sysenv_ns.files.marks import OF_FUSE, OF_USERS, Marks
from sysenv_ns.files.upper import Own, Share, Upper
from sysenv_ns.files.view import View
from sysenv_ns.host.base_files import Addition

from .trees import as_ordinary_user


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A tree that is compared with."""
    path = tmp_path / "host"
    _make(path, {"d/a": "a", "d/b": "b", "d/sub/c": "c", "f": "file"})
    (path / "link").symlink_to("d")
    return path


def _make(path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    path.mkdir(exist_ok=True)


def _compare(
    host: Path, *uppers: Path, added: Iterable[Addition] = (), shadowed: Iterable[str] = (), marks: Marks = OF_FUSE
) -> dict[str, ComparedPath]:
    """All that is found, and whether several processes, each with its share, find the same together."""
    seen = HostSide(added, True, [f"{host}/{path}" for path in shadowed])

    def found(share: Share) -> list[ComparedPath]:
        walked = upper.walk([(str(host), str(path)) for path in uppers], marks, share=share)
        groups = comparison.compare(walked, seen, [str(host)], share).result()
        return [_compared(*row) for group in groups for row in group.rows()]

    whole = found(Share())
    assert len({row.path for row in whole}) == len(whole)
    for processes in (2, 5):
        parts = [row for number in range(processes) for row in found(Share(number, processes))]
        assert sorted(parts, key=attrgetter("path")) == sorted(whole, key=attrgetter("path"))
    return {row.path.removeprefix(f"{host}/"): row for row in whole}


def _compared(path: str, before: int, after: int, alike: ComparedPath) -> ComparedPath:
    old, new = alike.old, alike.new
    return alike._replace(path=path, old=old and old._replace(size=before), new=new and new._replace(size=after))


def _kinds(found: dict[str, ComparedPath]) -> dict[str, str]:
    def kind(row: ComparedPath) -> str:
        if row.new is None or row.old is None:
            return "deleted" if row.new is None else "added"
        return "same" if row.same_content and row.old == row.new else "changed"

    return {path: kind(row) for path, row in found.items()}


def test_several_uppers(host: Path, tmp_path: Path) -> None:
    """What a layer below says is hidden by those above it."""
    top, frozen, lowest = tmp_path / "top", tmp_path / "frozen", tmp_path / "lowest"
    _make(top, {"d/a": "new", "d/.wh.kept": "", "opt": "x"})
    _make(frozen, {"d/.wh.a": "", "d/.wh.b": "", "d/kept": "gone again", "opt/below": "hidden"})
    _make(lowest, {"d/b": "changed and then deleted", "d/sub/c": "c", "d/new": "new"})
    assert _kinds(_compare(host, top, frozen, lowest)) == {
        **{"d": "same", "d/a": "changed", "d/b": "deleted", "d/sub": "same", "d/sub/c": "same"},
        **{"d/new": "added", "opt": "added"},
    }


def test_opaque_directories_hide_down_to_the_bottom(host: Path, tmp_path: Path) -> None:
    _make(tmp_path / "upper", {f"d/{policy.FUSE_OPAQUE}": "", "d/a": "a", "d/sub/new": "new"})
    assert _kinds(_compare(host, tmp_path / "upper")) == {
        **{"d": "same", "d/a": "same", "d/b": "deleted", "d/sub": "same", "d/sub/new": "added", "d/sub/c": "deleted"},
    }


def test_other_types(host: Path, tmp_path: Path) -> None:
    """What is below a directory that was none is compared with nothing, whereever a link of the host led."""
    _make(tmp_path / "upper", {"link/a": "a", "f/x": "x", "d": "a file"})
    found = _compare(host, tmp_path / "upper")
    assert _kinds(found) == {**dict.fromkeys(("link", "f", "d"), "changed"), "link/a": "added", "f/x": "added"}
    types = [(row.old.type, row.new.type) for row in found.values() if row.old and row.new]
    assert sorted(types) == [("directory", "file"), ("file", "directory"), ("symlink", "directory")]


def test_whiteouts_of_nothing_and_what_is_shadowed(host: Path, tmp_path: Path) -> None:
    _make(tmp_path / "upper", {".wh.absent": "", "d/a": "hidden by a mount", "d/sub/c": "this too", ".wh.f": ""})
    assert _kinds(_compare(host, tmp_path / "upper", shadowed=["d"])) == {"f": "deleted"}


def test_what_all_environments_have(host: Path, tmp_path: Path) -> None:
    added = [
        Addition(f"{host}/{path}"[1:], 0o644, text) for path, text in (("own/a", "a"), ("own/b", "b"), ("f", "other"))
    ]
    _make(tmp_path / "upper", {"own/a": "a", "own/.wh.b": "", "f": "file"})
    found = _compare(host, tmp_path / "upper", added=added)
    assert {path: row.of_host for path, row in found.items()} == dict.fromkeys(("own", "own/a", "own/b", "f"), False)
    assert found["own/b"].new is None
    assert found["own/a"].same_content
    assert not found["f"].same_content


def test_what_cannot_be_read_is_empty() -> None:
    with tempfile.TemporaryDirectory() as directory:  # which every user can reach, unlike tmp_path
        Path(directory).chmod(0o755)
        host, upper = Path(directory, "host"), Path(directory, "upper")
        _make(host, {"d/a": "a", "d/b": "b", "d/sub/c": "c"})
        (host / "d" / "a").chmod(0)
        (host / "d" / "sub").chmod(0)
        _make(upper, {"d/a": "", "d/b": "b", "d/sub/c": "c"})

        def look() -> list[object]:
            found = _compare(host, upper)
            row = found["d/a"]
            return [row.same_content, row.old and row.old.size, found["d/sub/c"].old, found["d/b"].same_content]

        assert as_ordinary_user(look) == [True, 0, None, True]
        (host / "d" / "sub").chmod(0o755)


def test_paths_are_followed_as_the_environment_does(host: Path, tmp_path: Path) -> None:
    (tmp_path / "upper" / "usr").mkdir(parents=True)
    (tmp_path / "upper" / "usr" / "new").symlink_to("/link")
    (tmp_path / "upper" / "loop").symlink_to("loop")
    own = Own(Upper([("", str(tmp_path / "upper"))], OF_FUSE), View(str(host)))
    assert comparison.real("/link/a", own) == "/d/a"
    assert comparison.real("/usr/new/../f/", own) == "/usr/f"
    assert comparison.real("/usr/new/a", own) == "/d/a"
    assert comparison.real("/link", own) == "/link"
    assert comparison.real("/", own) == "/"
    assert comparison.real("/loop/a", own) == "/loop/a"


def test_marks_of_the_kernel(host: Path, tmp_path: Path) -> None:
    """Where no file is a mark, each process leaves out what is for others; names decide, not their order."""
    names = [f"{letter}{number}" for letter in "xyz" for number in range(20)]
    _make(tmp_path / "upper", {f"{place}/{name}": name for place in ("d", "d/sub", "new", "new/in") for name in names})
    _make(host, {f"d/{name}": "old" for name in names[:30]} | {f"d/sub/gone{name}": "" for name in names})
    os.setxattr(tmp_path / "upper/d/sub", OF_USERS.opaque, b"y")
    kinds = _kinds(_compare(host, tmp_path / "upper", marks=OF_USERS))
    expected = {f"{place}/{name}": "added" for place in ("d", "d/sub", "new", "new/in") for name in names}
    expected |= {f"d/{name}": "changed" for name in names[:30]} | {f"d/sub/gone{name}": "deleted" for name in names}
    expected |= {"d": "same", "d/sub": "same", "d/sub/c": "deleted", "new": "added", "new/in": "added"}
    assert kinds == expected
