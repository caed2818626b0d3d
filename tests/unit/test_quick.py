"""quick: it takes a call for what click takes it for, or leaves it; and it needs none of click's modules."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import sysenv_ns
from sysenv_ns import cli, creation, notices, quick, quick_verbs
from sysenv_ns.environment.store import Store
from sysenv_ns.quick import PlainCall
from sysenv_ns.reporter import Reporter
from sysenv_ns.verbs import entry, exec, shell

_PLACE = os.path.dirname(os.path.dirname(sysenv_ns.__file__))
_WORDS = st.sampled_from(
    ["--root", "--me", "--linked", "--", "-", "proj", "true", "-c", "--help", "--ephemeral", "--on-disk", "", "x y"]
)


@dataclass
class _Seen:
    call: PlainCall | None = None


def _by_click(verb: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> PlainCall | None:
    """What click makes of it; None for what does not come to entering an environment by its name."""
    seen = _Seen()

    def enter(context: Any, name: str | None, command: Any, new: Any) -> None:
        if name is not None and new.throwaway in (None, "memory"):
            seen.call = PlainCall(name, command.identity, command.arguments, new.throwaway is not None)

    monkeypatch.setattr(entry, "enter", enter)
    CliRunner().invoke(cli.main, [verb, *arguments])
    return seen.call


@given(verb=st.sampled_from(["exec", "shell"]), arguments=st.lists(_WORDS, max_size=6))
def test_a_call_means_what_click_takes_it_for(verb: str, arguments: list[str]) -> None:
    call = quick.parsed([verb, *arguments])
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert call is None or call == _by_click(verb, arguments, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ("exec p -- make install", PlainCall("p", None, ("make", "install"))),
        ("exec p make -j4", PlainCall("p", None, ("make", "-j4"))),
        ("exec --me p -- -- x", PlainCall("p", "me", ("--", "x"))),
        ("exec --me --root p sh", PlainCall("p", "root", ("sh",))),
        ("exec --linked p gcc", PlainCall("p", "linked", ("gcc",))),
        ("exec --ephemeral p -- x", PlainCall("p", None, ("x",), ephemeral=True)),
        ("exec --me --ephemeral p x", PlainCall("p", "me", ("x",), ephemeral=True)),
        ("shell --ephemeral p", PlainCall("p", None, None, ephemeral=True)),
        ("shell p", PlainCall("p", None, None)),
        ("shell --root p", PlainCall("p", "root", None)),
    ],
)
def test_plain_calls(arguments: str, call: PlainCall) -> None:
    assert quick.parsed(arguments.split()) == call


@pytest.mark.parametrize(
    "arguments",
    ["", "list", "exec", "exec p", "exec p --", "exec --help", "exec --driver fuse p x", "exec -- p x", "shell",
     "shell p --root", "shell p x", "shell --linked p",
     "shell --linked --me p", "-v exec p x", "exec --ephemeral --on-disk p x",
     "exec --ephemeral -- x", "shell --ephemeral", "exec --roo p x"],
)  # fmt: skip
def test_all_others_are_left_to_click(arguments: str) -> None:
    assert quick.parsed(arguments.split()) is None


@pytest.mark.parametrize(
    ("arguments", "plain"),
    [("create p", True), ("list", True), ("rebase --dry-run p", True), ("rebase p --dry-run", True), ("create", False),
     ("create -h", False), ("create p q", False), ("create --json p", False), ("list --json", False), ("list p", False),
     ("rebase p", False), ("rebase --dry-run", False), ("exec p x", False), ("", False)],
)  # fmt: skip
def test_which_calls_of_other_verbs_are_plain(arguments: str, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (quick_verbs.planned(arguments.split()) is not None) is plain
    monkeypatch.setattr(notices, "on_terminal", lambda: True)
    assert quick_verbs.planned(["list"]) is None  # it would have colours


def test_questions_are_left_to_click(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only root can go on after one, it would be asked twice."""

    def create(store: Store, name: str, driver: str, id_map: str, reporter: Reporter) -> None:
        assert reporter.ask is not None
        reporter.ask("Shall this be done?")

    monkeypatch.setenv("SYSENV_NS_HOME", str(tmp_path))
    monkeypatch.setattr(notices, "can_ask", lambda: True)
    monkeypatch.setattr(creation, "create", create)
    assert quick_verbs.run(["create", "p"]) is None


def test_the_options_are_those_of_the_verbs() -> None:
    identities = {
        name: option.flag_value
        for option in exec.command.params
        if isinstance(option, click.Option) and option.name == "identity"
        for name in option.opts
    }
    assert identities == quick._IDENTITIES
    (ephemeral,) = (option.opts for option in exec.command.params if option.name == "throwaway")
    options = {*identities, *ephemeral}
    of_shell = {name for option in shell.command.params for name in option.opts} & options
    assert {"exec": options, "shell": of_shell} == quick._OPTIONS


# Of Python's library, besides what Python itself begins with and what is part of the interpreter.
_LIBRARY = {"__future__", "ctypes", "ctypes._endian", "struct", "types"}


_PATHS = {
    "start": ("quick", "drivers.stub", "inside.tmpfiles", "root_files", "kernel.waiting", "memory"),
    "create": ("quick_verbs", "creation", "drivers.stub", "drivers.probe"),
    "list": ("quick_verbs", "listing", "status", "environment.ephemeral"),
}


@pytest.mark.parametrize("modules", _PATHS.values(), ids=_PATHS)
def test_what_is_called_often_imports_next_to_nothing_of_the_library(modules: tuple[str, ...]) -> None:
    script = f"""
import sys
sys.path.append({_PLACE!r})
before = {{*sys.modules}}
import {", ".join(f"sysenv_ns.{name}" for name in ("__main__", *modules))}
new = [sys.modules[name].__spec__ for name in {{*sys.modules}} - before]
print(*(spec.name for spec in new if spec.origin not in ("built-in", "frozen") and spec.name[:9] != "sysenv_ns"))
"""
    process = subprocess.run((sys.executable, "-I", "-S", "-c", script), capture_output=True, text=True, check=True)
    extensions = {"_ctypes", "_prctl", "_json", "_socket", "_struct", "fcntl", "math", "select", "zlib"}
    assert set(process.stdout.split()) - extensions <= _LIBRARY
