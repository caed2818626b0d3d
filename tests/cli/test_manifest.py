"""freeze and sync on the command line: which file and name are meant, what is asked, and what is printed where."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sysenv_ns.environment.store import Store
from sysenv_ns.manifest import inspection, plans, sync
from sysenv_ns.manifest.document import AddedFile, Manifest
from sysenv_ns.manifest.plans import Action
from sysenv_ns.manifest.sync import Asking, SyncOptions, SyncResult

from .conftest import Run

Calls = list[tuple[str, Path, SyncOptions]]
_ACTIONS = (
    Action("install", "hello", b""),
    Action("repository", "/etc/apt/sources.list.d/x.list"),
    Action("file", "/etc/l", AddedFile(link="a\x1b")),
    Action("script", "evil", b"one\n\x1b[2Jtwo\n"),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, two below one with a manifest."""
    directory = tmp_path / "my proj/a/b"
    directory.mkdir(parents=True)
    (tmp_path / "my proj/sysenv.toml").write_text("")
    monkeypatch.chdir(directory)
    monkeypatch.setenv("HOME", str(tmp_path))
    return directory


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """With what sync is called; it finds that all is to be done, but for an environment `same`."""
    found: Calls = []

    def run(store: Store, name: str, file: Path, options: SyncOptions, asking: Asking) -> SyncResult:
        found.append((name, file, options))
        result = SyncResult(
            name, str(file), () if name == "same" else _ACTIONS, created=name == "new", notes=("a note",)
        )
        if not options.check and result.actions:
            asking.agree(result)
        return result

    monkeypatch.setattr(sync, "run", run)
    return found


def test_which_file_and_name(run: Run, project: Path, calls: Calls) -> None:
    above = project.parent.parent / "sysenv.toml"
    other = project / "other.toml"
    other.write_text('name = "named"')
    for arguments in ((), ("same",), ("other.toml",), ("./other.toml",), ("x", "other.toml"), ("x", "../..")):
        run("sync", "--yes", *arguments)
    assert [(name, file) for name, file, _ in calls] == [
        ("my-proj", above),
        ("same", above),
        ("named", other),
        ("named", other),
        ("x", other),
        ("x", above),
    ]


def test_mistakes(run: Run, project: Path, calls: Calls) -> None:
    too_many = run("sync", "a", "b", "c")
    assert (too_many.exit_code, "Too many arguments" in too_many.stderr) == (2, True)
    wrong = run("sync", "-x-", "x.toml")
    assert wrong.exit_code == 2
    (project.parent.parent / "sysenv.toml").unlink()
    for command in ("sync", "shell"):
        result = run(command)
        assert result.exit_code == 2
        assert "there is no sysenv.toml here, nor in a directory above" in result.stderr


def test_nobody_is_there_to_be_asked(run: Run, project: Path, calls: Calls) -> None:
    result = run("sync", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("hint: check what would be done, then give --yes\n")
    assert "  +  package     hello" in result.stderr
    assert "  -  repository  /etc/apt/sources.list.d/x.list" in result.stderr
    assert "      | \\x1b[2Jtwo\n" in result.stderr
    assert "\x1b" not in result.stderr


def test_what_is_printed(run: Run, project: Path, calls: Calls) -> None:
    file = project.parent.parent / "sysenv.toml"
    done = run("sync", "--yes", "x")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.endswith(f"sysenv-ns: a note\nsysenv-ns: x matches {file}\n")
    assert run("sync", "same").stderr.endswith(f"sysenv-ns: same already matches {file}\n")
    differs = run("sync", "--check", "x")
    assert differs.exit_code == 1
    assert differs.stdout.startswith(
        f"x differs from {file}:\n  it was not made from a sysenv.toml\n  +  package     hello\n"
    )
    assert run("sync", "--check", "new").stdout.startswith(f"new will be created from {file}:\n")
    same = run("sync", "--check", "same")
    assert (same.exit_code, same.stdout) == (0, f"same matches {file}\n")
    as_json = run("sync", "--check", "--json", "--force", "x")
    assert as_json.exit_code == 1
    data = json.loads(as_json.stdout)
    assert (data["name"], data["matches"], data["done"]) == ("x", False, False)
    assert data["actions"][0] == {"kind": "install", "subject": "hello"}
    assert calls[-1][2] == SyncOptions(check=True, force=True)


def test_shell_knows_the_environment_of_a_directory(
    run: Run, project: Path, environments: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that another file, or nobody, has made: a directory must not decide about any environment."""
    file = project.parent.parent / "sysenv.toml"
    file.write_text('name = "whole"\npackages = []\n')
    foreign = run("shell")
    assert foreign.exit_code == 125
    assert f"the environment whole was not made from {file}\n" in foreign.stderr
    assert f"sysenv-ns sync whole {file}" in foreign.stderr
    record = environments.envs / f"whole/upper{inspection.RECORD}"
    record.parent.mkdir(parents=True)
    record.write_bytes(plans.encode("/other/sysenv.toml", Manifest()))
    assert "but from /other/sysenv.toml" in run("shell").stderr


def test_shell_does_not_make_one_without_a_word(run: Run, project: Path, calls: Calls) -> None:
    result = run("shell")
    assert result.exit_code == 125
    assert "cannot ask for confirmation" in result.stderr
    assert [name for name, _, _ in calls] == ["my-proj"]


def test_add_and_drop_write_the_file_and_sync(run: Run, project: Path, calls: Calls) -> None:
    file = project.parent.parent / "sysenv.toml"
    file.write_text('name = "x"  # ours\n')
    file.chmod(0o640)
    added = run("add", "--yes", "ripgrep", "fd-find=1")
    assert (added.exit_code, calls[-1][:2]) == (0, ("x", file))
    assert added.stderr.endswith("sysenv-ns: added ripgrep, fd-find=1\n")
    assert file.read_text() == 'name = "x"  # ours\npackages = ["ripgrep", "fd-find=1"]\n'
    assert file.stat().st_mode & 0o777 == 0o640
    dropped = run("drop", "--yes", "fd-find")
    assert (dropped.exit_code, dropped.stdout) == (0, "")
    assert file.read_text() == 'name = "x"  # ours\npackages = ["ripgrep"]\n'
    assert sorted(os.listdir(file.parent)) == ["a", "sysenv.toml"]


@pytest.mark.parametrize("arguments", [("add", "hello"), ("add", "Wrong!"), ("drop", "hello"), ("drop", "m-a")])
def test_what_fails_leaves_the_file_as_it_was(
    run: Run, project: Path, calls: Calls, arguments: tuple[str, ...]
) -> None:
    """Nobody can be asked about all else that differs; the name is none; it is not there."""
    file = project.parent.parent / "sysenv.toml"
    file.write_text('packages = ["m-a"] # kept\n')
    result = run(*arguments)
    assert (result.exit_code, "hint: " in result.stderr) == (1, True)
    assert file.read_text() == 'packages = ["m-a"] # kept\n'


def test_add_asks_only_where_more_would_change(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project.parent.parent / "sysenv.toml"
    install, drop = Action("install", "hello", b""), Action("drop", "other")
    cases = [
        ((install,), str(file), 0),
        ((install, drop), str(file), 1),
        ((install, Action("script", "x", b"")), str(file), 1),
        ((install,), "/other/sysenv.toml", 1),
        ((install,), "", 1),
    ]
    for actions, origin, status in cases:
        file.write_text("")
        monkeypatch.setattr(sync, "run", _agreeing(actions, origin))
        assert run("add", "hello").exit_code == status
        assert file.read_text() == ("" if status else 'packages = ["hello"]\n')


def _agreeing(actions: tuple[Action, ...], origin: str) -> Callable[..., SyncResult]:
    def run(store: Store, name: str, file: Path, options: SyncOptions, asking: Asking) -> SyncResult:
        result = SyncResult(name, str(file), actions, origin=origin)
        asking.agree(result)
        return result

    return run


def test_a_link_to_the_file_stays_one(run: Run, project: Path, calls: Calls) -> None:
    file = project.parent.parent / "sysenv.toml"
    kept = project / "kept.toml"
    file.rename(kept)
    file.symlink_to("a/b/kept.toml")
    assert run("add", "--yes", "hello").exit_code == 0
    assert file.is_symlink()
    assert kept.read_text() == 'packages = ["hello"]\n'


def test_a_shell_without_a_name_or_a_file_is_the_default(
    run: Run, project: Path, calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sysenv.toml says it before."""
    settings = tmp_path / "settings/sysenv-ns/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('default = "usual"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    entered: list[str] = []
    monkeypatch.setattr("sysenv_ns.verbs.entry.enter", lambda context, name, command, new: entered.append(name))
    assert "cannot ask for confirmation" in run("shell").stderr
    assert entered == []
    (project.parent.parent / "sysenv.toml").unlink()
    assert run("shell").exit_code == 0
    assert entered == ["usual"]
