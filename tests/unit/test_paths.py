"""paths: what it has of pathlib does the same, and both can be mixed."""

from __future__ import annotations

import copy
import inspect
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.paths import Path

_TEXTS = st.text("/.ab", max_size=8)
_LIKE_TEXT: dict[str, Any] = {"str": str, "name": lambda path: path.name, "parent": lambda path: str(path.parent)}


@given(first=_TEXTS, second=_TEXTS)
def test_a_path_is_what_pathlib_makes_of_it(first: str, second: str) -> None:
    for ours, theirs in (
        (Path(first), pathlib.Path(first)),
        (Path(first, second), pathlib.Path(first, second)),
        (Path(first) / second, pathlib.Path(first) / second),
        (Path(first) / pathlib.Path(second), pathlib.Path(first) / second),
        (pathlib.Path(first) / Path(second), pathlib.Path(first) / second),
    ):
        assert {key: f(ours) for key, f in _LIKE_TEXT.items()} == {key: f(theirs) for key, f in _LIKE_TEXT.items()}
        assert ours == theirs
        assert theirs == ours
        assert hash(ours) == hash(theirs)
        assert repr(ours) == repr(theirs)
    assert (Path(first) == Path(second)) == (pathlib.Path(first) == pathlib.Path(second))
    assert (Path(first) < Path(second)) == (pathlib.Path(first) < pathlib.Path(second))
    assert sorted([Path(first), pathlib.Path(second)]) == sorted([pathlib.Path(first), pathlib.Path(second)])


def test_a_path_is_no_text() -> None:
    assert Path("/a") != "/a"  # type: ignore[comparison-overlap]
    with pytest.raises(TypeError):
        Path("/a") + "b"  # type: ignore[operator]


def test_what_it_does_itself(tmp_path: pathlib.Path) -> None:
    path = Path(tmp_path) / "directory"
    assert (path.exists(), path.is_dir(), path.is_symlink()) == (False, False, False)
    path.mkdir(mode=0o700)
    path.mkdir(exist_ok=True)
    assert (path.exists(), path.is_dir(), path.lstat().st_mode & 0o777) == (True, True, 0o700)
    with pytest.raises(FileExistsError):
        path.mkdir()
    (path / "file").write_text("text")
    assert ((path / "file").read_text(), (path / "file").read_bytes()) == ("text", b"text")
    with pytest.raises(FileExistsError):
        (path / "file").mkdir(exist_ok=True)
    (path / "a" / "b").mkdir(parents=True)


_NEWER = {"follow_symlinks", "newline"}  # of exists, is_dir and read_text, since Python 3.12 and 3.13


def test_what_it_does_itself_takes_what_pathlib_takes() -> None:
    methods = [name for name, value in vars(Path).items() if inspect.isfunction(value) and not name.startswith("_")]
    assert "write_text" in methods
    for name in methods:
        ours, theirs = (list(inspect.signature(getattr(c, name)).parameters) for c in (Path, pathlib.Path))
        assert [word for word in theirs if word in ours] == ours, name
        assert set(theirs) - set(ours) <= _NEWER, name


def test_what_cannot_be_looked_at_is_no_absence() -> None:
    for path in ("/dev/null/a", "a\0b", "/proc/self/exe", "/usr", "/nowhere"):
        for name in ("exists", "is_dir", "is_symlink"):
            ours, theirs = (_outcome(getattr(c(path), name)) for c in (Path, pathlib.Path))
            assert ours == theirs, (path, name)
    for look in (Path("x" * 300).exists, Path("x" * 300).is_dir):  # pathlib's of 3.14 says that there is none
        with pytest.raises(OSError, match="too long"):
            look()


def _outcome(function: Callable[[], object]) -> object:
    try:
        return function()
    except OSError as error:
        return error.errno


def test_pathlib_does_the_rest(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").touch()
    assert list(Path(tmp_path).iterdir()) == [tmp_path / "a"]
    assert Path("/a/b.c").suffix == ".c"
    assert copy.deepcopy(Path("/a")) == copy.copy(Path("/a")) == Path("/a")
    with pytest.raises(AttributeError):
        Path("/a").nothing  # type: ignore[attr-defined]  # noqa: B018
