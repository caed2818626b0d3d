"""host: what is asked of root, and what is told of it. Root's part is tested where there is one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sysenv_ns import cli, launcher, sudo
from sysenv_ns.drivers import choose, driver
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import idmap
from sysenv_ns.mapped import client, trees
from sysenv_ns.mapped.root import Released

from .conftest import Run

PATH = f"/usr/local/lib/sysenv-ns/{os.getuid()}/sysenv-ns"


@pytest.fixture(autouse=True)
def no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has run the tests with sudo."""
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process believes that it is no root's."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


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
    monkeypatch.setattr(client, "has_made", lambda uid: True)
    monkeypatch.setattr(client, "release", lambda uid: Released((), False, path))
    result = run("host", "release")
    assert result.exit_code == 0
    assert (f"removed the launcher {PATH}" in result.stderr) is bool(path)


@pytest.mark.parametrize("there", [True, False])
def test_who_removes_everything_is_told_what_root_has_made(
    run: Run, monkeypatch: pytest.MonkeyPatch, there: bool, tmp_path: Path
) -> None:
    monkeypatch.setattr(launcher, "PLACE", str(tmp_path))
    monkeypatch.setattr(trees, "PLACE", "/nowhere")
    if there:  # perhaps of another installation
        Path(launcher.path_of(os.getuid())).parent.mkdir()
        Path(launcher.path_of(os.getuid())).touch()
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


def test_nothing_is_asked_of_root_where_there_is_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "has_made", lambda uid: False)
    monkeypatch.setattr(client, "release", None)
    result = run("host", "release")
    assert (result.exit_code, result.stderr) == (0, "sysenv-ns: root has made nothing for you\n")


@pytest.mark.skipif(os.getuid() != 0, reason="it is root's process")
def test_who_runs_it_with_sudo_means_themselves(
    run: Run, asked: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "is_needed", lambda: False)
    monkeypatch.setenv("SUDO_UID", "4711")
    result = run("host", "prepare")
    assert (result.exit_code, asked) == (0, [("prepare", 4711, False)])
    assert "sudo is used" not in result.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="it is root's process")
@pytest.mark.parametrize("said", ["", "me", "-1"])
def test_a_variable_of_sudos_that_names_nobody(run: Run, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", said)
    result = run("host", "release")
    assert (result.exit_code, f"the variable SUDO_UID is {said!r}" in result.stderr) == (1, True)


@pytest.mark.usefixtures("ordinary")
def test_no_password_is_asked_for_in_vain(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise SysenvError("no full id map", "get one")

    monkeypatch.setattr(launcher, "is_needed", lambda: False)
    monkeypatch.setattr(idmap, "detect_full", refuse)
    monkeypatch.setattr(sudo, "start", None)
    result = run("host", "prepare")
    assert (result.exit_code, "no full id map" in result.stderr) == (1, True)


@pytest.mark.usefixtures("ordinary")
def test_interrupted_at_the_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no refusal of sudo's."""

    class Process:
        def communicate(self) -> None:
            raise KeyboardInterrupt

        def wait(self) -> int:
            return 1

    monkeypatch.setattr(launcher, "is_needed", lambda: False)
    monkeypatch.setattr(idmap, "detect_full", lambda: None)
    monkeypatch.setattr(sudo, "start", lambda *arguments: Process())
    result = run("host", "prepare")
    assert result.exit_code == 130
    assert "hint" not in result.stderr


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("meanwhile", [True, False])
def test_somebody_has_answered_in_another_terminal(
    store: Store, asked: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    """What that one has begun to use is not taken away."""
    prepared = iter((False, meanwhile))
    monkeypatch.setattr(trees, "is_prepared", lambda uid, gid: next(prepared))
    monkeypatch.setattr(sudo, "available", lambda: True)
    driver.get("idmap").agree(store, lambda question: True, by_name=True)
    assert asked == ([] if meanwhile else [("prepare", os.getuid(), False)])
