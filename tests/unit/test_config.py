"""The policy files: what they may say, what is refused with file and key, and which of them wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.environment import config
from sysenv_ns.environment.config import Config
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError

from .samples import add_environment


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's file is looked for; its directory exists, and a home."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("config/sysenv-ns", "home/inner"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path / "config" / "sysenv-ns" / "config.toml"


@pytest.fixture
def environment(store: Store) -> Environment:
    """An environment whose own file is at its path."""
    return add_environment(store, "proj")


def test_without_files_nothing_is_said(user_file: Path, store: Store, environment: Environment) -> None:
    assert config.of_user(store) == config.of_environment(store, environment) == Config()


def test_everything_can_be_said(user_file: Path, store: Store) -> None:
    user_file.write_text(
        'bind = ["/usr/share/misc/", "/bin/sh"]\noverlay = ["/srv"]\n'
        'driver = "copy"\nid-map = "single"\nshell = "/bin/x"\n'
    )
    bind = (os.path.realpath("/usr/share/misc"), os.path.realpath("/bin/sh"))
    assert config.of_user(store) == Config(bind, (os.path.realpath("/srv"),), "copy", "single", "/bin/x")


def test_symbolic_links_are_resolved(user_file: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr/bin")
    user_file.write_text(f'bind = ["{tmp_path}/link/env"]\n')
    assert config.of_user(store).bind == (str(Path("/usr/bin/env").resolve()),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bind = ", ["is not TOML"]),
        ("\xff", ["is not TOML"]),
        ("bind = " + "[" * 5000, ["is not TOML"]),
        ("binds = []", ["'binds'", "known keys: bind, overlay, driver, id-map, shell, default, env"]),
        ("[bind]\nx = 1", ["bind is not a list of paths", 'bind = ["/opt/vendor"]']),
        ('bind = "/opt"', ["bind is not a list of paths"]),
        ("overlay = [1]", ["overlay is not a list of paths"]),
        ('bind = ["opt"]', ["'opt' in bind is not an absolute path"]),
        ('bind = [""]', ["'' in bind is not an absolute path"]),
        ('bind = ["~/x"]', ["'~/x' in bind is not an absolute path"]),
        ('bind = ["/opt/../etc"]', ["'/opt/../etc' in bind", "without .."]),
        ('bind = ["/opt/\\u0000"]', ["in bind is not an absolute path"]),
        ('bind = ["/no/such/path"]', ["/no/such/path in bind does not exist"]),
        ('overlay = ["/no/such/path"]', ["/no/such/path in overlay does not exist"]),
        ('bind = ["/"]', ["/ in bind cannot be chosen"]),
        ('bind = ["/proc/self"]', ["in bind cannot be chosen"]),
        ('overlay = ["/sys"]', ["/sys in overlay cannot be chosen"]),
        ('overlay = ["/dev"]', ["/dev in overlay cannot be chosen"]),
        ('bind = ["/run"]', ["/run in bind cannot be chosen"]),
        ('bind = ["STORE"]', ["in bind cannot be chosen", "the store"]),
        ('bind = ["STORE/envs"]', ["in bind cannot be chosen"]),
        ('overlay = ["STORE"]', ["in overlay cannot be chosen"]),
        ('bind = ["/usr"]', ["every installation writes to /usr in bind"]),
        ('bind = ["/etc"]', ["every installation writes to /etc"]),
        ('bind = ["/var/log"]', ["every installation writes to /var/log"]),
        ('overlay = ["HOME"]', ["in overlay overlaps your home"]),
        ('overlay = ["HOME/inner"]', ["in overlay overlaps your home"]),
        ('overlay = ["HOME/.."]', ["without .."]),
        ('overlay = ["/etc/passwd"]', ["/etc/passwd in overlay is not a directory"]),
        ('driver = "other"', ["driver cannot be 'other'", "choose one of: auto, stub"]),
        ("driver = 1", ["driver cannot be 1"]),
        ('id-map = "both"', ["id-map cannot be 'both'", "auto, full, single"]),
        ("id_map = 'full'", ["'id_map'", "id-map"]),
        ('shell = "fish"', ["shell cannot be 'fish'", "absolute path"]),
        ("shell = true", ["shell cannot be True"]),
        ("env = 1", ["env is not a table of variables", "env = {"]),
        ("[env]\nA = 1", ["A in env cannot be 1", 'A = "..."']),
        ('[env]\nA = "\\u0000"', ["A in env cannot be"]),
        ('[env]\n"" = "x"', ["'' in env is not a valid variable name"]),
        ('[env]\n"A=B" = "x"', ["'A=B' in env is not a valid variable name"]),
        ('[env]\nSYSENV_NS = "x"', ["SYSENV_NS in env is the name of the environment"]),
    ],
)
def test_what_is_refused(
    user_file: Path, store: Store, environment: Environment, tmp_path: Path, text: str, words: list[str]
) -> None:
    text = text.replace("STORE", str(store.path)).replace("HOME", str(tmp_path / "home"))
    user_file.write_text(text, encoding="latin-1")
    with pytest.raises(SysenvError) as raised:
        config.of_user(store)
    assert raised.value.message.startswith(f"{user_file}")
    assert raised.value.hint
    said = f"{raised.value.message}\n{raised.value.hint}"
    assert [word for word in words if word not in said] == []


def test_a_file_that_cannot_be_read(user_file: Path, store: Store) -> None:
    user_file.mkdir()
    with pytest.raises(SysenvError, match=r"cannot be read: Is a directory \(EISDIR\)"):
        config.of_user(store)


@pytest.mark.parametrize("configured", ["", "relative"])
def test_the_usual_place(user_file: Path, store: Store, monkeypatch: pytest.MonkeyPatch, configured: str) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", configured)
    usual = Path.home() / ".config" / "sysenv-ns" / "config.toml"
    usual.parent.mkdir(parents=True)
    usual.write_text('shell = "/bin/usual"\n')
    assert config.of_user(store).shell == "/bin/usual"


def test_the_environments_keys_win_and_lists_add_up(user_file: Path, store: Store, environment: Environment) -> None:
    user_file.write_text('bind = ["/usr/bin/env"]\nshell = "/bin/general"\ndriver = "fuse"\n')
    own = environment.path / "config.toml"
    own.write_text('bind = ["/usr/bin/env", "/usr/bin/sort"]\nshell = "/bin/own"\n')
    found = config.of_environment(store, environment)
    assert [Path(path).name for path in found.bind][-2:] == [Path("/usr/bin/env").resolve().name, "sort"]
    assert (len(found.bind), found.shell, found.driver) == (2, "/bin/own", "fuse")
    own.write_text("")
    assert config.of_environment(store, environment) == config.of_user(store)


def test_variables_add_up_and_the_environments_win(user_file: Path, store: Store, environment: Environment) -> None:
    user_file.write_text('[env]\nEDITOR = "vim"\nLANG = "C"\n')
    (environment.path / "config.toml").write_text('env = { LANG = "de_DE.UTF-8", EMPTY = "" }\n')
    found = config.of_environment(store, environment)
    assert found.env == (("EDITOR", "vim"), ("LANG", "de_DE.UTF-8"), ("EMPTY", ""))


@pytest.mark.parametrize("line", ['driver = "stub"', 'id-map = "full"'])
def test_what_is_chosen_at_the_making_is_not_for_an_environments_file(
    user_file: Path, store: Store, environment: Environment, line: str
) -> None:
    (environment.path / "config.toml").write_text(line)
    with pytest.raises(
        SysenvError, match=r"envs/proj/config\.toml: .* is chosen when an environment is made"
    ) as raised:
        config.of_environment(store, environment)
    assert str(user_file) in raised.value.hint


def test_the_default_is_the_users(user_file: Path, store: Store, environment: Environment) -> None:
    user_file.write_text('default = "proj"\n')
    assert config.of_user(store).default == "proj"
    for value in ("1", '"a/b"', '""'):
        user_file.write_text(f"default = {value}\n")
        with pytest.raises(SysenvError, match="default"):
            config.of_user(store)
    user_file.write_text("")
    (environment.path / "config.toml").write_text('default = "proj"\n')
    with pytest.raises(SysenvError, match="default is no setting of one environment"):
        config.of_environment(store, environment)


def test_a_path_cannot_be_bound_and_overlaid(user_file: Path, store: Store, environment: Environment) -> None:
    user_file.write_text('bind = ["/srv"]\n')
    (environment.path / "config.toml").write_text('overlay = ["/srv"]\n')
    with pytest.raises(SysenvError, match="/srv is both in bind and in overlay"):
        config.of_environment(store, environment)


def test_variables_of_a_manifest_are_those_that_a_program_can_have(environment: Environment) -> None:
    """Root of the environment writes them; none of them may keep anybody out."""
    path = environment.upper / "var/lib/sysenv-ns/variables.json"
    path.parent.mkdir(parents=True)
    path.write_text(r'{"A": "b", "B": "\ud800", "C": "\u0000", "D": 1, "E=": "x", "SYSENV_NS": "x", "F": "\udcff"}')
    assert config.of_manifest(environment) == {"A": "b", "F": "\udcff"}
