"""The launcher for systems where AppArmor forbids namespaces to users' programs: its files, and who goes on as it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sysenv_ns import launcher
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import children, ownership
from sysenv_ns.mapped import apparmor

UID, GID, OTHER = 1000, os.getgid(), 1001


@dataclass
class System:
    """One that restricts namespaces; what its apparmor_parser was called with, and says."""

    root: Path
    loads: list[list[str]] = field(default_factory=list)
    complaint: str | None = None

    @property
    def launchers(self) -> Path:
        return self.root / "launchers"

    @property
    def profile(self) -> Path:
        return self.root / "profiles/sysenv-ns-launcher"

    @property
    def setting(self) -> Path:
        return self.root / "setting"

    def load(self, program: str, arguments: list[str], variables: object) -> str | None:
        """Stands for children.complaint."""
        self.loads.append(arguments)
        return self.complaint


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """This user counts as root there, so that all can run the tests."""
    found = System(tmp_path)
    found.profile.parent.mkdir()
    found.setting.write_text("1\n")
    monkeypatch.setattr(launcher, "PLACE", str(found.launchers))
    monkeypatch.setattr(launcher, "PROFILE", str(found.profile))
    monkeypatch.setattr(launcher, "_SETTING", str(found.setting))
    monkeypatch.setattr(launcher, "_is_of_root", lambda path: True)
    monkeypatch.setattr(ownership, "intruded", lambda path: None)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: None)
    monkeypatch.setattr(apparmor, "find_program", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(children, "complaint", found.load)
    return found


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made(system: System) -> None:
    path = Path(apparmor.install(UID, GID))
    assert path == system.launchers / "1000" / "sysenv-ns"
    modes = [_mode(made) for made in (system.launchers, path.parent, path, system.profile)]
    assert modes == [0o755, 0o750, 0o755, 0o644]
    assert system.loads == [["apparmor_parser", "--replace", "--skip-cache", str(system.profile)]]
    assert launcher.is_installed(UID)
    assert not launcher.is_installed(OTHER)
    assert f"{system.launchers}/[0-9]*/sysenv-ns flags=(unconfined)" in system.profile.read_text()
    assert [path.name for path in system.profile.parent.iterdir()] == ["sysenv-ns-launcher"]


def test_the_script_starts_this_installation_with_its_arguments(system: System) -> None:
    command = [apparmor.install(UID, GID), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": "/nowhere"})
    assert done.stdout.startswith("sysenv-ns ")


def test_an_interpreter_with_any_name(system: System, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / 'it\'s $HOME "x" é' / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s|" "$0" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(launcher, "_python", lambda: str(python))
    path = apparmor.install(UID, GID)
    done = subprocess.run([path, "exec", "a b", "--", "$x"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{python}|-I|-X|{launcher.STARTED}|-m|sysenv_ns|exec|a b|--|$x|"


@pytest.mark.parametrize("name", ["bin/python", "bin/python3", "lib/../bin/python", "link/bin/python3"])
def test_an_installation_is_one_by_whichever_path_it_was_started(tmp_path: Path, name: str) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    (tmp_path / "venv/link").symlink_to(tmp_path / "venv")
    code = "import sys; sys.path.append(sys.argv[1]); from sysenv_ns import launcher; print(launcher._python())"
    command = (str(tmp_path / "venv" / name), "-I", "-c", code, str(Path(launcher.__file__).parents[1]))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path.resolve()}/venv/bin/python3\n"


def test_one_of_another_installation_is_not_used_and_replaced(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(apparmor.install(UID, GID))
    with monkeypatch.context() as patch:
        patch.setattr(launcher, "_python", lambda: "/elsewhere/python")
        assert not launcher.is_installed(UID)
        apparmor.install(UID, GID)
        assert launcher.is_installed(UID)
    assert "'/elsewhere/python'" in path.read_text()
    assert not launcher.is_installed(UID)


@pytest.mark.parametrize("place", ["launchers", "launchers/1000", "launchers/1000/sysenv-ns"])
def test_one_that_others_can_change_is_not_used(system: System, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    apparmor.install(UID, GID)
    monkeypatch.setattr(launcher, "_is_of_root", lambda path: path != str(system.root / place))
    assert not launcher.is_installed(UID)


def test_a_link_in_its_place_is_not_used(system: System) -> None:
    path = Path(apparmor.install(UID, GID))
    path.rename(system.root / "elsewhere")
    path.symlink_to(system.root / "elsewhere")
    assert not launcher.is_installed(UID)


def test_a_directory_that_others_can_change_gets_none(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "intruded", lambda found: found)
    with pytest.raises(SysenvError, match="users other than root can change"):
        apparmor.install(UID, GID)
    assert list(system.launchers.iterdir()) == []
    assert system.loads == []


def test_the_profile_goes_with_the_last_launcher(system: System) -> None:
    for uid in (UID, OTHER):
        apparmor.install(uid, GID)
    system.loads.clear()
    assert apparmor.remove(UID) == launcher.path_of(UID)
    assert system.loads == []
    assert system.profile.exists()
    assert launcher.is_installed(OTHER)
    apparmor.remove(OTHER)
    assert system.loads == [["apparmor_parser", "--remove", "--skip-cache", str(system.profile)]]
    assert not system.profile.exists()
    assert not system.launchers.exists()
    assert apparmor.remove(OTHER) is None
    assert len(system.loads) == 1


def test_a_profile_that_cannot_be_loaded(system: System) -> None:
    system.complaint = "Warning: x\nline 4: syntax error"
    with pytest.raises(SysenvError, match="refuses the profile: line 4: syntax error"):
        apparmor.install(UID, GID)
    with pytest.raises(SysenvError, match="refuses the profile"):
        apparmor.remove(UID)
    assert not system.profile.exists()  # what cannot be taken from the kernel now is not loaded again


def test_without_the_restriction_there_is_nothing_to_make(system: System) -> None:
    for text in ("0\n", None):
        system.setting.write_text(text) if text else system.setting.unlink()
        with pytest.raises(SysenvError, match="no launcher is needed"):
            apparmor.install(UID, GID)
        assert not system.launchers.exists()
    assert apparmor.remove(UID) is None


def _goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **facts: object) -> list[str] | None:
    """What a process becomes, on a system where it has to, but for these facts."""
    label = tmp_path / "label"
    label.write_bytes(bytes(facts.get("label", b"unconfined\n")))  # type: ignore[call-overload]
    became: list[list[str]] = []
    monkeypatch.setattr(launcher, "_LABEL", str(label))
    monkeypatch.setattr(launcher, "is_needed", lambda: facts.get("needed", True))
    monkeypatch.setattr(launcher, "is_installed", lambda uid: facts.get("installed", True))
    monkeypatch.setattr(os, "geteuid", lambda: facts.get("uid", UID))
    monkeypatch.setattr(sys, "_xoptions", facts.get("options", {}))
    monkeypatch.setattr(os, "execv", lambda path, arguments: became.append([path, *arguments]))
    launcher.go_on(["exec", "x"])
    assert launcher.is_missing() is (facts == {"installed": False})
    return became[0] if became else None


def test_a_plain_start_goes_on_as_the_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = "/usr/local/lib/sysenv-ns/1000/sysenv-ns"
    assert _goes_on(monkeypatch, tmp_path) == [path, path, "exec", "x"]


@pytest.mark.parametrize(
    "facts",
    [
        {"uid": 0},
        {"needed": False},
        {"installed": False},
        {"options": {launcher.STARTED: True}},
        {"label": b"sysenv-ns-launcher (unconfined)\n"},
        {"label": b"firefox (enforce)\n"},
    ],
    ids=str,
)
def test_others_do_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, facts: dict[str, object]) -> None:
    assert _goes_on(monkeypatch, tmp_path, **facts) is None


@pytest.mark.parametrize(
    ("label", "options", "installed", "expected"),
    [
        ("unconfined", (), False, "sysenv-ns host prepare --launcher"),
        ("unconfined", (), True, "sysenv-ns host prepare --launcher"),  # it cannot be executed
        ("unconfined", (launcher.STARTED,), True, "sudo apparmor_parser -r /etc/apparmor.d/sysenv-ns-launcher"),
        ("snap.code.code (enforce)", (), False, "sysenv-ns host prepare --launcher"),
        ("snap.code.code (enforce)", (), True, "no profile for: this one has snap.code.code (enforce)"),
    ],
)
def test_remedies(
    monkeypatch: pytest.MonkeyPatch, label: str, options: tuple[str, ...], installed: bool, expected: str
) -> None:
    monkeypatch.setattr(launcher, "_label", lambda: label)
    monkeypatch.setattr(launcher, "is_installed", lambda uid: installed)
    monkeypatch.setattr(sys, "_xoptions", dict.fromkeys(options, True))
    assert launcher.remedy().endswith(expected)


def test_a_start_imports_nothing_else_for_it() -> None:
    code = "import sys; before = {*sys.modules}; import sysenv_ns.launcher; print(*{*sys.modules} - before)"
    done = subprocess.run((sys.executable, "-I", "-c", code), capture_output=True, text=True, check=True)
    assert {*done.stdout.split()} <= {"sysenv_ns", "sysenv_ns.launcher", "__future__"}
