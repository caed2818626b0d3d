"""What is built appears whole or not at all; what is left of an interrupted command means nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.environment import transaction
from sysenv_ns.kernel import syscalls


@pytest.fixture
def trash(tmp_path: Path) -> Path:
    path = tmp_path / "trash"
    path.mkdir()
    return path


def _build(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


class _InterruptedError(BaseException):
    """As Ctrl-C is."""


def test_what_is_published_stays_and_nothing_else(trash: Path, tmp_path: Path) -> None:
    with transaction.staging(trash, "new", None) as staging:
        assert not staging.exists()
        transaction.publish(_build(staging, "new"), tmp_path / "name")
    assert (tmp_path / "name/file").read_text() == "new"
    assert os.listdir(trash) == []


@pytest.mark.parametrize("error", [_InterruptedError, OSError])
def test_what_fails_leaves_nothing(trash: Path, tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with transaction.staging(trash, "new", None) as staging:
            _build(staging, "half")
            raise error

    with pytest.raises(error):
        fail()
    assert os.listdir(trash) == []


@pytest.mark.parametrize("there", ["directory", "empty", "file", "link"])
def test_nothing_that_is_there_is_replaced(trash: Path, tmp_path: Path, there: str) -> None:
    target = tmp_path / "name"
    if there == "directory":
        _build(target, "old")
    elif there == "empty":
        target.mkdir()
    elif there == "file":
        target.write_text("old")
    else:
        target.symlink_to("nowhere")
    before = target.lstat()
    with pytest.raises(FileExistsError), transaction.staging(trash, "new", None) as staging:
        transaction.publish(_build(staging, "new"), target)
    assert os.path.samestat(target.lstat(), before)
    assert os.listdir(trash) == []


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_there_is_deleted_after_an_exchange(trash: Path, tmp_path: Path, whole: bool) -> None:
    target = _build(tmp_path / "name", "old")
    with transaction.staging(trash, "new", None) as staging:
        transaction.exchange(_build(staging, "new"), target, whole)
        assert (staging / "file").read_text() == "old"
    assert (target / "file").read_text() == "new"
    assert os.listdir(trash) == []


def test_an_exchange_that_fails_changes_nothing(trash: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(one: str, other: str) -> None:
        raise OSError(28, "no room", one, None, other)

    monkeypatch.setattr(syscalls, "exchange", fail)
    target = _build(tmp_path / "name", "old")
    with pytest.raises(OSError, match="no room"), transaction.staging(trash, "new", None) as staging:
        transaction.exchange(_build(staging, "new"), target)
    assert (target / "file").read_text() == "old"
    assert os.listdir(trash) == []


def test_one_at_a_time_tidies_up(trash: Path) -> None:
    with transaction.turn(trash, wait=False) as first:
        assert first
        with transaction.turn(trash, wait=False) as second:
            assert not second
    with transaction.turn(trash, wait=True) as third:
        assert third
    with transaction.turn(trash / "missing", wait=True) as nothing:
        assert not nothing


def test_what_the_dead_have_left_is_found_and_deleted(trash: Path) -> None:
    gone = _build(trash / f"new-a.b.{2**22 + 1}.00000000", "half")  # above any pid (proc_sys_kernel(5), pid_max)
    other = _build(trash / f"new-a.{2**22 + 1}.00000000", "half")
    own = _build(transaction.trash_path(trash, "new-a.b"), "half")
    assert transaction.left(trash, "new-a.b") == [gone]
    assert transaction.left(trash, "new-a") == [other]
    trial = _build(trash / f"{transaction.TRIAL}a.{2**22 + 1}.00000000", "half")  # programs may run in it
    transaction.empty_trash(trash)
    assert {*os.listdir(trash)} == {own.name, trial.name}
