"""Directories of changes merged into one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sysenv_ns import policy
from sysenv_ns.files import union
from sysenv_ns.files.marks import OF_FUSE, OF_USERS
from sysenv_ns.kernel import idmap, namespace

_SIGNS = OF_USERS


def _in_namespace(function: Callable[[], None]) -> None:
    """As root of a namespace of its own, who may make whiteouts."""
    id_map = None if os.geteuid() == 0 else idmap.single(os.getuid(), os.getgid())
    namespace.run_inside(id_map, function, "test-merging")


def _make(root: Path, entries: dict[str, str | None]) -> None:
    """Files with their content, directories with a "/" at the end ("!": opaque), and whiteouts (None)."""
    root.mkdir()
    for path, content in entries.items():
        place = root / path.rstrip("/!")
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(("/", "!")):
            place.mkdir(exist_ok=True)
            if path.endswith("!"):
                os.setxattr(place, _SIGNS.opaque, b"y")
        elif content is None:
            os.mknod(place, 0o20600, 0)
        else:
            place.write_text(content)


def _found(root: Path, directory: str = "") -> dict[str, str | None]:
    """The same of what there is."""
    found: dict[str, str | None] = {}
    with os.scandir(root / directory) as entries:
        for entry in entries:
            path = f"{directory}{entry.name}"
            if _SIGNS.hidden_name(entry) is not None:
                found[path] = None
            elif entry.is_dir(follow_symlinks=False):
                found[f"{path}{'!' if _SIGNS.is_opaque(entry.path) else '/'}"] = ""
                found |= _found(root, f"{path}/")
            else:
                found[path] = Path(entry.path).read_text()
    return found


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"a": "2"}, {"a": "1", "b": "1"}], {"a": "2", "b": "1"}),
        ([{"d/a": "2"}, {"d/b": "1"}, {"d/a": "0", "d/c": "0"}], {"d/": "", "d/a": "2", "d/b": "1", "d/c": "0"}),
        ([{"a": None}, {"a": "1"}], {"a": None}),  # what lies below all of them stays hidden
        ([{"a": None}, {"a/b": "1"}], {"a": None}),
        ([{"a": "2"}, {"a/b": "1"}], {"a": "2"}),
        ([{"a/b": "2"}, {"a": "1"}], {"a!": "", "a/b": "2"}),
        ([{"a/b": "2"}, {"a": None}, {"a/c": "0"}], {"a!": "", "a/b": "2"}),
        ([{"d!": "", "d/a": "2"}, {"d/b": "1"}], {"d!": "", "d/a": "2"}),
        ([{"d/a": "2"}, {"d!": "", "d/b": "1"}, {"d/c": "0"}], {"d!": "", "d/a": "2", "d/b": "1"}),
        # Where nothing can show through, a whiteout would be listed.
        ([{"d/a": None}, {"d!": "", "d/a": "1", "d/b": "1"}], {"d!": "", "d/b": "1"}),
        ([{"d/e/a": None}, {"d!": "", "d/e/a": "1"}], {"d!": "", "d/e/": ""}),
        ([{"d/e/a": None}, {"d/e/a": "1"}], {"d/": "", "d/e/": "", "d/e/a": None}),
    ],
)
def test_what_lies_above_what(
    tmp_path: Path, layers: list[dict[str, str | None]], expected: dict[str, str | None]
) -> None:
    directories = [tmp_path / str(number) for number in range(len(layers))]

    def merge() -> None:
        for directory, entries in zip(directories, layers, strict=True):
            _make(directory, entries)
        union.merge([*map(str, directories)], str(tmp_path / "all"), _SIGNS)

    _in_namespace(merge)
    assert _found(tmp_path / "all") == expected


def test_files_are_shared_and_directories_look_like_the_uppermost(tmp_path: Path) -> None:
    _make(tmp_path / "1", {"d/a": "1"})
    _make(tmp_path / "0", {"d/b": "0"})
    (tmp_path / "0/d/link").symlink_to("nowhere")
    os.link(tmp_path / "0/d/b", tmp_path / "0/d/c")
    (tmp_path / "1/d").chmod(0o2750)
    os.setxattr(tmp_path / "1/d", "user.note", b"1")
    os.utime(tmp_path / "1/d", ns=(5, 7))
    _in_namespace(lambda: union.merge([str(tmp_path / "1"), str(tmp_path / "0")], str(tmp_path / "all"), _SIGNS))
    merged = tmp_path / "all/d"
    status = merged.stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o2750, 7)
    assert os.getxattr(merged, "user.note") == b"1"
    assert (merged / "a").stat().st_ino == (tmp_path / "1/d/a").stat().st_ino
    assert (merged / "b").stat().st_ino == (merged / "c").stat().st_ino
    assert (merged / "link").readlink() == Path("nowhere")


def test_names_that_are_signs_for_fuse_overlayfs_only(tmp_path: Path) -> None:
    """Layers of container images, unpacked inside, have such files."""
    _make(tmp_path / "1", {"d!": "", "d/.wh.a": "1", f"e/{policy.FUSE_OPAQUE}": "1", ".wh.f": "1"})
    _make(tmp_path / "0", {"d/.wh.b": "0", "e/a": "0", "f": "0"})
    _in_namespace(lambda: union.merge([str(tmp_path / "1"), str(tmp_path / "0")], str(tmp_path / "all"), _SIGNS))
    assert _found(tmp_path / "all") == {
        **{"d!": "", "d/.wh.a": "1", "e/": "", "e/a": "0", f"e/{policy.FUSE_OPAQUE}": "1", ".wh.f": "1", "f": "0"}
    }


def test_the_signs_of_fuse_overlayfs(tmp_path: Path) -> None:
    signs = OF_FUSE
    _make(tmp_path / "1", {"d/.wh.a": "", "e/a": "1", f"e/{policy.FUSE_OPAQUE}": "", ".wh.f": ""})
    _make(tmp_path / "0", {"d/a": "0", "d/b": "0", "e/b": "0", "f/a": "0"})
    _in_namespace(lambda: union.merge([str(tmp_path / "1"), str(tmp_path / "0")], str(tmp_path / "all"), signs))
    assert sorted(str(path.relative_to(tmp_path / "all")) for path in (tmp_path / "all").rglob("*")) == [
        *(".wh.f", "d", "d/.wh.a", "d/b", "e", "e/a")
    ]
    assert os.getxattr(tmp_path / "all/e", signs.opaque) == b"y"
