"""host: what is asked of root, and what is told of it. Root's part is tested where there is one."""

from __future__ import annotations

import json
import os

import pytest

from sysenv_ns import cli, launcher, sudo
from sysenv_ns.drivers import choose
from sysenv_ns.errors import SysenvError
from sysenv_ns.mapped import client, trees
from sysenv_ns.mapped.root import Released

from .conftest import Run

PATH = f"/usr/local/lib/sysenv-ns/{os.getuid()}/sysenv-ns"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What root was asked for."""
    calls: list[tuple[object, ...]] = []

    def allow(uid: int) -> str:
        calls.append(("allow", uid))
        return PATH

    def prepare(uid: int, at_boot: bool = False) -> dict[str, str]:
        calls.append(("prepare", uid, at_boot))
        return {"/usr": f"/run/sysenv-ns/{uid}/usr"}

    monkeypatch.setattr(client, "allow", allow)
    monkeypatch.setattr(client, "prepare", prepare)
    return calls


@pytest.mark.parametrize(
    ("arguments", "needed", "expected"),
    [
        (("prepare",), False, [("prepare", os.getuid(), False)]),
        (("prepare", "--at-boot"), False, [("prepare", os.getuid(), True)]),
        (("prepare",), True, [("allow", os.getuid()), ("prepare", os.getuid(), False)]),
        (("prepare", "--launcher"), True, [("allow", os.getuid())]),
        (("prepare", "--launcher"), False, [("allow", os.getuid())]),  # and root says that none is needed
    ],
)
def test_what_root_is_asked_for(
    run: Run,
    asked: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    needed: bool,
    expected: list[tuple[object, ...]],
) -> None:
    monkeypatch.setattr(launcher, "is_needed", lambda: needed)
    result = run("host", *arguments)
    assert (result.exit_code, asked) == (0, expected), result.output
    told = {
        "allow": f"sysenv-ns starts through {PATH}",
        "prepare": "/usr is mounted read-only at /run/sysenv-ns/",
    }
    for verb, text in told.items():
        assert (text in result.stdout) is (verb in [call[0] for call in expected])


def test_the_launcher_alone_shows_nothing_at_a_start(run: Run, asked: list[tuple[object, ...]]) -> None:
    result = run("host", "prepare", "--launcher", "--at-boot")
    assert result.exit_code == 2
    assert "leave out --at-boot" in result.stderr
    assert asked == []


def test_without_a_launcher_nothing_is_shown(
    run: Run, asked: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uid: int) -> str:
        raise SysenvError("apparmor_parser is not installed", "install the package apparmor")

    monkeypatch.setattr(launcher, "is_needed", lambda: True)
    monkeypatch.setattr(client, "allow", refuse)
    result = run("host", "prepare")
    assert result.exit_code == 1
    assert "hint: install the package apparmor" in result.stderr
    assert asked == []


@pytest.mark.parametrize("path", [PATH, None])
def test_release_tells_of_the_launcher(run: Run, monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    monkeypatch.setattr(client, "release", lambda uid: Released((), False, path))
    result = run("host", "release")
    assert result.exit_code == 0
    assert (f"removed the launcher {PATH}" in result.stderr) is bool(path)


@pytest.mark.parametrize("there", [True, False])
def test_who_removes_everything_is_told_what_root_has_made(
    run: Run, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(launcher, "is_installed", lambda uid: there)
    monkeypatch.setattr(trees, "PLACE", "/nowhere")
    result = run("remove", "--all", "--yes")
    assert result.exit_code == 0
    assert ("sysenv-ns host release" in result.stderr) is there


@pytest.mark.parametrize("there", [True, False])
def test_status_tells_of_the_launcher(run: Run, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(launcher, "is_installed", lambda uid: there)
    assert ("through a launcher that AppArmor allows" in run("host", "status").stdout) is there
    assert json.loads(run("host", "status", "--json").stdout)["launcher"] is there


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize(
    ("arguments", "missing", "offered"),
    [
        (("create", "new"), True, True),
        (("exec", "new", "--", "true"), True, True),
        (("create", "new", "--driver", "fuse"), True, True),
        (("create", "new", "--driver", "root"), True, False),
        (("create", "new"), False, False),
    ],
)
def test_the_launcher_is_offered_where_it_is_missing(
    run: Run,
    asked: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    missing: bool,
    offered: bool,
    answer: bool,
) -> None:
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    def start_again(arguments: object) -> None:
        raise SystemExit(0)  # the process would have become another

    def choose_(*arguments: object) -> None:
        raise SysenvError("not to be had")

    monkeypatch.setattr(cli, "can_ask", lambda: True)
    monkeypatch.setattr(cli, "asked", ask)
    monkeypatch.setattr(launcher, "is_missing", lambda: missing)
    monkeypatch.setattr(launcher, "go_on", start_again)
    monkeypatch.setattr(sudo, "available", lambda: True)
    monkeypatch.setattr(choose, "choose", choose_)
    result = run(*arguments)
    assert [f"/usr/local/lib/sysenv-ns/{os.getuid()}" in question for question in questions] == [True] * offered
    assert asked == ([("allow", os.getuid())] if offered and answer else [])
    assert ("not to be had" in result.stderr) is not bool(asked)
