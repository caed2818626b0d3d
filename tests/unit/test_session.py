"""Sessions, as far as no namespace is needed: who runs the command, with which variables, and how it is found."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sysenv_ns import session
from sysenv_ns.command import Asked, Command, Identity, _execute, identity_of, login_shell, variables_of
from sysenv_ns.environment.description import Environment
from sysenv_ns.errors import SysenvError
from sysenv_ns.host.services import PROGRAMS
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.reporter import Reporter

from .samples import FULL, SINGLE

ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(id_map: IdMap | None) -> Environment:
    return Environment("proj", "0", "stub" if id_map else "root", id_map, 0.0, Path("/nowhere"), Path("/"))


@pytest.mark.parametrize(
    ("id_map", "arguments", "asked", "expected"),
    [
        (FULL, None, None, "me"),
        (FULL, ("ls",), None, "root"),
        (FULL, None, "root", "root"),
        (FULL, ("ls",), "me", "me"),
        (SINGLE, None, None, "root"),
        (SINGLE, ("ls",), None, "root"),
        (SINGLE, None, "root", "root"),
        (None, ("ls",), None, "root"),
        (None, None, "me", "me"),
        (FULL, ("ls",), "linked", "me"),
        (SINGLE, ("ls",), "linked", "root"),
        (None, ("ls",), "linked", "me"),
    ],
)
def test_identity(
    id_map: IdMap | None, arguments: tuple[str, ...] | None, asked: Asked | None, expected: Identity
) -> None:
    assert identity_of(environment(id_map), Command(arguments, asked)) == expected


@pytest.mark.parametrize(
    ("driver", "missing", "hint"),
    [
        ("stub", "install newuidmap", "install newuidmap; then make an environment with --id-map full"),
        ("stub", None, "make an environment with --id-map full: that works here now"),
        (
            "fuse",
            "install newuidmap",
            "the driver fuse has no other one: `sysenv-ns doctor` tells which drivers work here",
        ),
    ],
)
def test_nobody_but_root_in_the_single_map(
    monkeypatch: pytest.MonkeyPatch, driver: str, missing: str | None, hint: str
) -> None:
    """What is to be done about it depends on what this machine lacks."""

    def detect_full() -> IdMap:
        if missing:
            raise SysenvError("no full id map", missing)
        return FULL

    monkeypatch.setattr("sysenv_ns.kernel.idmap.detect_full", detect_full)
    with pytest.raises(SysenvError, match="single id map") as caught:
        identity_of(replace(environment(SINGLE), driver=driver), Command(None, "me"))
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("id_map", "arguments", "asked", "home"),
    [
        (FULL, ("ls",), None, "/root"),
        (FULL, None, "root", "/root"),
        (FULL, None, None, "/home/you"),
        (FULL, ("ls",), "me", "/home/you"),
        (SINGLE, None, None, "/home/you"),
        (SINGLE, None, "root", "/home/you"),
        (SINGLE, ("ls",), None, "/home/you"),
        (FULL, ("ls",), "linked", "/home/you"),
        (SINGLE, ("ls",), "linked", "/home/you"),
        (None, ("ls",), None, "/home/you"),
    ],
)
def test_home_is_roots_where_root_runs_a_command(
    monkeypatch: pytest.MonkeyPatch,
    id_map: IdMap | None,
    arguments: tuple[str, ...] | None,
    asked: Asked | None,
    home: str,
) -> None:
    monkeypatch.setenv("HOME", "/home/you")
    monkeypatch.setenv("KEPT", "as it is")
    command = Command(arguments, asked)
    identity = identity_of(environment(id_map), command)
    variables = variables_of(environment(id_map), identity, command)
    assert (variables["HOME"], variables["SYSENV_NS"], variables["KEPT"]) == (home, "proj", "as it is")


@pytest.mark.parametrize(
    ("identity", "path", "expected"),
    [
        ("me", "/usr/bin:/bin", f"{PROGRAMS}:/usr/bin:/bin"),
        (
            "root",
            "/home/you/bin:/usr/bin",
            f"{PROGRAMS}:/home/you/bin:/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin",
        ),
        ("root", "", f"{PROGRAMS}:{ROOT_PATH}"),
        ("root", ROOT_PATH, f"{PROGRAMS}:{ROOT_PATH}"),
    ],
)
def test_roots_path_has_the_system_directories(
    monkeypatch: pytest.MonkeyPatch, identity: Identity, path: str, expected: str
) -> None:
    monkeypatch.setenv("PATH", path)
    assert variables_of(environment(FULL), identity, Command(("ls",), identity))["PATH"] == expected


def test_variables_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are as if the caller had set them: root's own, the stand-ins, and options come on top."""
    monkeypatch.setenv("A", "the caller's")
    configured = (("A", "the settings'"), ("B", "b"), ("HOME", "/x"), ("PATH", "/bin"), ("LC_CTYPE", "C"), ("C", "c"))
    command = Command(("ls",), None, variables=(("C", "the option's"),))
    as_root = variables_of(environment(FULL), "root", command, configured)
    assert [as_root[name] for name in ("A", "B", "C", "HOME")] == ["the settings'", "b", "the option's", "/root"]
    me = variables_of(environment(FULL), "me", command, configured)
    expected = ["/x", f"{PROGRAMS}:/bin", "C", "proj"]
    assert [me[name] for name in ("HOME", "PATH", "LC_CTYPE", "SYSENV_NS")] == expected


@pytest.mark.parametrize("name", ["no-such-program-here", "/no/such/program", "./no-such", "/etc/passwd/x", ""])
def test_a_command_that_is_not_there(name: str) -> None:
    failure = _execute((name,), {"PATH": "/usr/bin::/no/such/directory:/bin"})
    assert failure.errno in (errno.ENOENT, errno.ENOTDIR)


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("text")
    for name in ("data", str(tmp_path / "data"), str(tmp_path)):
        assert _execute((name,), {"PATH": f"{tmp_path}:/usr/bin"}).errno == errno.EACCES


def test_a_directory_on_the_path_is_no_command(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    assert _execute(("name",), {"PATH": f"{tmp_path}:/usr/bin"}).errno == errno.ENOENT


@pytest.mark.parametrize("head", ["", "#!/bin/sh\n"])
def test_the_first_program_on_the_path_gets_arguments_and_variables(tmp_path: Path, head: str) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "script").write_text(f'{head}echo {name} "$1" "$A"\n')
        (tmp_path / name / "script").chmod(0o755)
    code = "import sys; from sysenv_ns import command; command._execute(('script', 'x  y'), eval(sys.argv[1]))"
    variables = {"PATH": f"/no/such:{tmp_path}/first:{tmp_path}/second", "A": "1"}
    result = subprocess.run([sys.executable, "-c", code, repr(variables)], check=False, capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("first x  y 1\n", "")


@pytest.mark.parametrize(
    ("shell", "expected"), [("/bin/sh", "/bin/sh"), ("/no/such", None), ("sh", None), ("", None), ("/etc/passwd", None)]
)
def test_the_login_shell_is_the_callers_if_it_is_there(shell: str, expected: str | None) -> None:
    fallback = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
    assert login_shell({"SHELL": shell}) == (expected or fallback)


@pytest.mark.parametrize("gone", ["", "/no/such/directory"])
def test_a_missing_directory_is_replaced_by_home_with_a_notice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gone: str
) -> None:
    monkeypatch.chdir("/")
    notices: list[str] = []
    reporter = Reporter(notices.append, lambda text: None, lambda: contextlib.nullcontext(lambda fraction: None))
    session._change_directory(gone, {"HOME": str(tmp_path)}, reporter)
    assert os.getcwd() == str(tmp_path)
    assert len(notices) == 1
    session._change_directory(gone, {"HOME": "/no/such/home"}, reporter)
    assert os.getcwd() == "/"
    session._change_directory(str(tmp_path), {"HOME": "/"}, reporter)
    assert os.getcwd() == str(tmp_path)
    assert len(notices) == 1
