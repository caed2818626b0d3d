"""What is deleted of a tree, and what is not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysenv_ns.files.removal import delete

_LEVELS = 3000


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A tree that no path reaches the end of, with a file at each level."""
    top = tmp_path / "deep"
    top.mkdir()
    current = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(_LEVELS):
        name = f"{number}".zfill(100)
        os.mkdir(name, dir_fd=current)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(current)
    yield top
    subprocess.run(["rm", "-rf", top], check=True)


def test_a_deep_tree(deep: Path) -> None:
    delete(deep)
    assert os.listdir(deep.parent) == []


def test_whatever_is_in_it_and_nothing_else(tmp_path: Path) -> None:
    outside, top = tmp_path / "outside", tmp_path / "top"
    (outside / "inner").mkdir(parents=True)
    for path in ("a/b/c", "a/d", "e"):
        (top / path).mkdir(parents=True)
        (top / path / "file").touch()
        (top / path / "link").symlink_to(outside)
    os.mkfifo(top / "a/pipe")
    (top / "a/nowhere").symlink_to("nowhere")
    before = len(os.listdir("/proc/self/fd"))
    delete(top)
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["inner"]
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_no_directory_stays(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    with pytest.raises(FileNotFoundError):
        delete(tmp_path / "none")
    for name in ("file", "link"):
        with pytest.raises(NotADirectoryError):
            delete(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["directory", "file", "link"]
