"""A file that appears when it is whole: what was there stays until then, and nothing else is left."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sysenv_ns.archive import output
from sysenv_ns.errors import SysenvError


@pytest.fixture(params=["unnamed", "named"], autouse=True)
def _kind_of_file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has files without names, and one that has not."""
    if request.param == "named":
        real = os.open

        def refuse(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real(path, flags, *arguments, **keywords)

        monkeypatch.setattr(os, "open", refuse)


def _write(path: Path, force: bool = False, meanwhile: Callable[[], object] = lambda: None) -> None:
    with output.file(path, force, nullcontext) as stream:
        stream.write(b"new")
        meanwhile()


def test_it_is_there_at_the_end(tmp_path: Path) -> None:
    with output.file(tmp_path / "file", False, nullcontext) as stream:
        stream.write(b"new")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(), SysenvError), (BrokenPipeError(), BrokenPipeError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_of_one_that_fails_nothing_is_left(
    tmp_path: Path, error: BaseException, told: type[BaseException], force: bool
) -> None:
    if force:
        (tmp_path / "file").write_text("old")

    def fail() -> None:
        raise error

    with pytest.raises(told):
        _write(tmp_path / "file", force, fail)
    assert os.listdir(tmp_path) == (["file"] if force else [])
    assert not force or (tmp_path / "file").read_text() == "old"


def test_what_is_there_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(SysenvError, match="already exists"):
        _write(path)
    assert path.read_text() == "old"
    _write(path, force=True)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_one_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(SysenvError, match="already exists"):
        _write(path, meanwhile=partial(path.write_text, "theirs"))
    assert path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["file"]


def test_a_symbolic_link_leads_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "link").symlink_to("inner/file")
    _write(tmp_path / "link")
    assert (tmp_path / "inner/file").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_only_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SysenvError, match="is not a file"):
            _write(path, force=True)
