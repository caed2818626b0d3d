"""Which directories of a home are looked through after a command of root's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.files.handover import Heir
from sysenv_ns.root_files import Begun, RootSession


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    (path / "src/project").mkdir(parents=True)
    (path / "my files").mkdir()
    return path


@pytest.mark.parametrize(
    ("directory", "arguments", "expected"),
    [
        ("", ["true"], []),
        ("src", ["make"], ["src"]),
        ("src/project", ["make", "install"], ["src/project"]),
        ("", ["make", "-C", "src/project"], ["src/project"]),
        ("", ["configure", "--prefix=HOME/src"], ["src"]),
        ("", ["tar", "xf", "a.tar", "-C", "my files"], ["my files"]),
        ("", ["sh", "-c", "echo one > /run/first; echo ready; exec sleep 300"], []),
        ("", ["sh", "-c", "cd src/project && make"], ["src/project"]),
        ("", ["sh", "-c", 'cp /etc/hosts "HOME/src/hosts"'], ["src"]),
        ("", ["sh", "-c", "apt-get install -y /tmp/a.deb"], []),
        ("", ["mkdir", "-p", "new/sub"], ["new"]),
        ("src", ["cp", "x", "../src/project/y"], ["src"]),
    ],
)
def test_places(home: Path, directory: str, arguments: list[str], expected: list[str]) -> None:
    words = tuple(argument.replace("HOME", str(home)) for argument in arguments)
    begun = Begun(str(home), str(home / directory), words)
    # What the user has made before is nobody's leaving.
    session = RootSession(Heir(os.getuid(), os.getgid(), 4e9, only_root=True), begun, ())
    assert [os.path.relpath(area.top, home) for area in session.areas()] == expected
