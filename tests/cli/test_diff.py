"""diff on the command line: what is printed where, and the pager."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from sysenv_ns import console
from sysenv_ns.diff import difference
from sysenv_ns.diff.changes import Change, Facts
from sysenv_ns.diff.difference import Difference
from sysenv_ns.environment.store import Store

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
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "sysenv-ns: no changes in other\n")
    assert run("diff", "other", "/etc").stderr == "sysenv-ns: no changes there\n"


def test_exit_code(run: Run, asked: list[Sequence[str]]) -> None:
    assert run("diff", "whole", "--exit-code").exit_code == 1
    assert run("diff", "other", "--exit-code").exit_code == 0


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": ""}, True),  # as https://no-color.org has it
        ({"NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_on_a_terminal(
    run: Run,
    asked: list[Sequence[str]],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    coloured: bool,
) -> None:
    for module in ("console", "verbs.diff"):
        monkeypatch.setattr(f"sysenv_ns.{module}.on_terminal", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in ({"PAGER": "cat", "TERM": "xterm"} | variables).items():
        monkeypatch.setenv(name, value)
    shown = run("diff", "whole").stdout
    assert ("\x1b[" in shown) is coloured
    assert click.unstyle(shown) == 'Files of no package\nadded  "/etc/\\377"  3 B\n'


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_bar_where_it_can_be_drawn(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with console.progress("Reading") as report:
        report(0.5)
        report(0.501)
    bar = f"Reading  [{'#' * 18}{'-' * 18}]  50 %"
    assert terminal.getvalue().count(bar) == (term == "xterm")


def test_a_bar_is_erased_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)

    def interrupted() -> None:
        with console.progress("Reading") as report:
            report(7.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "100 %" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize(("variable", "command"), [("", None), ("cat", None), (" cat ", None), ("most -s", "most -s")])
def test_the_pager_of_the_user(variable: str, command: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", variable)
    assert console.pager() == command


def test_a_pager_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAGER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "less").touch(mode=0o755)
    assert console.pager() == "less"


def test_the_pager_gets_all_and_may_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LESS", raising=False)
    handler = signal.getsignal(signal.SIGINT)
    console.show_in_pager(b"a\xff\n", f'cat > "{tmp_path}/shown"; echo "$LESS" >> "{tmp_path}/shown"', None)
    assert (tmp_path / "shown").read_bytes() == b"a\xff\nFRX\n"
    console.show_in_pager(b"x" * 1_000_000, "true", None)
    assert signal.getsignal(signal.SIGINT) is handler
