"""freeze and sync on the command line: which file and name are meant, what is asked, and what is printed where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sysenv_ns.manifest import plans, state, syncing
from sysenv_ns.manifest.document import File, Manifest
from sysenv_ns.manifest.plans import Action
from sysenv_ns.manifest.syncing import Asking, Options, Result
from sysenv_ns.store import Store

from .conftest import Run

Calls = list[tuple[str, Path, Options]]
_ACTIONS = (
    Action("install", "hello", b""),
    Action("repository", "/etc/apt/sources.list.d/x.list"),
    Action("file", "/etc/l", File(link="a\x1b")),
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

    def run(store: Store, name: str, file: Path, options: Options, asking: Asking) -> Result:
        found.append((name, file, options))
        result = Result(name, str(file), () if name == "same" else _ACTIONS, created=name == "new", notes=("a note",))
        if not options.check and result.actions:
            asking.agree(result)
        return result

    monkeypatch.setattr(syncing, "run", run)
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
    assert result.stderr.endswith("hint: look at what it is, then give --yes\n")
    assert "  +  package     hello" in result.stderr
    assert "  -  repository  /etc/apt/sources.list.d/x.list" in result.stderr
    assert "      | \\x1b[2Jtwo\n" in result.stderr
    assert "\x1b" not in result.stderr


def test_what_is_printed(run: Run, project: Path, calls: Calls) -> None:
    file = project.parent.parent / "sysenv.toml"
    done = run("sync", "--yes", "x")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.endswith(f"sysenv-ns: a note\nsysenv-ns: x matches {file}\n")
    assert run("sync", "same").stderr.endswith(f"sysenv-ns: same matches already: {file}\n")
    differs = run("sync", "--check", "x")
    assert differs.exit_code == 1
    assert differs.stdout.startswith(
        f"x differs, by {file}:\n  it was made from no such file\n  +  package     hello\n"
    )
    assert run("sync", "--check", "new").stdout.startswith(f"new is made, by {file}:\n")
    same = run("sync", "--check", "same")
    assert (same.exit_code, same.stdout) == (0, f"same matches {file}\n")
    as_json = run("sync", "--check", "--json", "--force", "x")
    assert as_json.exit_code == 1
    data = json.loads(as_json.stdout)
    assert (data["name"], data["matches"], data["done"]) == ("x", False, False)
    assert data["actions"][0] == {"kind": "install", "subject": "hello"}
    assert calls[-1][2] == Options(check=True, force=True)


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
    record = environments.envs / f"whole/upper{state.RECORD}"
    record.parent.mkdir(parents=True)
    record.write_bytes(plans.encode("/other/sysenv.toml", Manifest()))
    assert "but from /other/sysenv.toml" in run("shell").stderr


def test_shell_does_not_make_one_without_a_word(run: Run, project: Path, calls: Calls) -> None:
    result = run("shell")
    assert result.exit_code == 125
    assert "nobody can be asked" in result.stderr
    assert [name for name, _, _ in calls] == ["my-proj"]
