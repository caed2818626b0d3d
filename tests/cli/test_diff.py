"""diff on the command line: what is printed where, and the pager."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from sysenv_ns.diff import difference, pager
from sysenv_ns.diff.changes import Change, Facts
from sysenv_ns.diff.difference import Difference
from sysenv_ns.store import Store

from .conftest import Run

FILE = Facts("file", 0o644, 0, 0, 3)
FOUND = Difference("whole", (), (Change("/etc/\udcff", "added", None, FILE),), ("a note",))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The paths that are asked about; what is found is always the same."""
    asked: list[Sequence[str]] = []

    def find(store: Store, name: str, paths: Sequence[str]) -> Difference:
        asked.append(paths)
        return FOUND if name == "whole" else Difference(name, (), ())

    monkeypatch.setattr(difference, "find", find)
    return asked


def test_text(run: Run, asked: list[Sequence[str]]) -> None:
    result = run("diff", "whole")
    assert (result.exit_code, result.stderr) == (0, "sysenv-ns: a note\n")
    assert result.stdout == 'Files of no package\nadded  "/etc/\\377"  3 B\n'
    assert asked == [[]]


def test_json_alone_is_on_stdout(run: Run, asked: list[Sequence[str]]) -> None:
    result = run("diff", "--json", "whole")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["changes"][0]["path"] == "/etc/\udcff"


def test_paths_are_relative_to_the_current_directory(
    run: Run, asked: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("diff", "whole", "--files", "--", "a", "/b", "-c")
    assert asked == [[f"{tmp_path}/a", "/b", f"{tmp_path}/-c"]]


def test_nothing_is_said_to_be_nothing(run: Run, asked: list[Sequence[str]]) -> None:
    result = run("diff", "other")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "sysenv-ns: nothing is changed in other\n")
    assert run("diff", "other", "/etc").stderr == "sysenv-ns: nothing is changed there\n"


def test_exit_code(run: Run, asked: list[Sequence[str]]) -> None:
    assert run("diff", "whole", "--exit-code").exit_code == 1
    assert run("diff", "other", "--exit-code").exit_code == 0


@pytest.mark.parametrize(("variable", "command"), [("", None), ("cat", None), (" cat ", None), ("most -s", "most -s")])
def test_the_pager_of_the_user(variable: str, command: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", variable)
    assert pager.program() == command


def test_a_pager_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "less").touch(mode=0o755)
    assert pager.program() == "less"


def test_the_pager_gets_all_and_may_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LESS", raising=False)
    handler = signal.getsignal(signal.SIGINT)
    pager.show(b"a\xff\n", f'cat > "{tmp_path}/shown"; echo "$LESS" >> "{tmp_path}/shown"', None)
    assert (tmp_path / "shown").read_bytes() == b"a\xff\nFRX\n"
    pager.show(b"x" * 1_000_000, "true", None)
    assert signal.getsignal(signal.SIGINT) is handler
