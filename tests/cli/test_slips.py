"""What is mistyped makes no environment, and is told what was probably meant; words of other tools work."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysenv_ns import verbs
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store

from .conftest import Run


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The environments that are entered, which ends there, and made."""
    found: list[str] = []

    def make(context: object, name: str, new: object) -> Environment:
        found.append(f"made {name}")
        return Environment(name, "0", "root", None, 0.0, Path("/"), Path("/"))

    monkeypatch.setattr("sysenv_ns.verbs.entry.make", make)
    monkeypatch.setattr("sysenv_ns.environment.description.Environment.require_root", lambda environment: None)
    monkeypatch.setattr("sysenv_ns.session.run", lambda store, environment, *rest: found.append(environment.name))
    return found


@pytest.mark.parametrize("arguments", [("shell", "whoel"), ("exec", "whoel", "true"), ("run", "whoel", "true")])
def test_a_slip_is_refused_without_a_terminal(
    run: Run, environments: Store, entered: list[str], arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout, entered) == (125, "", [])
    assert result.stderr == (
        "sysenv-ns: there is no environment whoel; did you mean whole?\n"
        "hint: to create a new environment whoel, add --create\n"
    )


def test_sync_refuses_a_slip_too(run: Run, environments: Store, tmp_path: Path) -> None:
    (tmp_path / "sysenv.toml").write_text("packages = []\n")
    result = run("sync", "whoel", str(tmp_path))
    assert result.exit_code == 1
    assert "did you mean whole?" in result.stderr


@pytest.mark.parametrize("name", ["other", "whole2"])
def test_a_new_name_is_made(run: Run, environments: Store, entered: list[str], name: str) -> None:
    run("shell", name)
    assert entered == [f"made {name}", name]


def test_create_says_yes(run: Run, environments: Store, entered: list[str]) -> None:
    run("shell", "--create", "whoel")
    assert entered == ["made whoel", "whoel"]


@pytest.mark.parametrize(("answers", "expected"), [((True,), ["whole"]), ((False, True), ["made whoel", "whoel"])])
def test_on_a_terminal_it_is_asked(
    run: Run,
    environments: Store,
    entered: list[str],
    monkeypatch: pytest.MonkeyPatch,
    answers: tuple[bool, ...],
    expected: list[str],
) -> None:
    said = iter(answers)
    monkeypatch.setattr("sysenv_ns.verbs.create.can_ask", lambda: True)
    monkeypatch.setattr("sysenv_ns.verbs.create.asked", lambda question, default=False: next(said))
    run("shell", "whoel")
    assert entered == expected


def test_who_says_no_twice_gets_nothing(
    run: Run, environments: Store, entered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysenv_ns.verbs.create.can_ask", lambda: True)
    monkeypatch.setattr("sysenv_ns.verbs.create.asked", lambda question, default=False: False)
    assert run("shell", "whoel").exit_code == 125
    assert entered == []


@pytest.mark.parametrize("verb", ["status", "remove", "stop", "diff"])
def test_other_verbs_tell_what_was_probably_meant(run: Run, environments: Store, verb: str) -> None:
    result = run(verb, "whoel")
    assert "there is no environment whoel\nhint: did you mean whole? existing ones: damaged, whole" in result.stderr


@pytest.mark.parametrize(
    ("word", "verb"), [("lsit", "list"), ("statsu", "status"), ("statu", "status"), ("snap", "snapshot")]
)
def test_verbs_are_suggested(run: Run, store: Store, word: str, verb: str) -> None:
    result = run(word)
    assert result.exit_code == 2
    assert f"No such command '{word}'. Did you mean {verb}" in result.stderr


def test_nothing_like_it_is_no_suggestion(run: Run, store: Store) -> None:
    assert "No such command 'xyzzy'.\n" in run("xyzzy").stderr


@pytest.mark.parametrize(("alias", "verb"), verbs.ALIASES.items())
def test_words_of_other_tools(run: Run, store: Store, alias: str, verb: str) -> None:
    assert run(alias, "--help").stdout == run(verb, "--help").stdout


def test_help_is_a_verb(run: Run, store: Store) -> None:
    assert run("help").stdout == run("--help").stdout
    assert run("help", "rm").stdout == run("remove", "--help").stdout
    result = run("help", "lsit")
    assert result.exit_code == 2
    assert "Did you mean list" in result.stderr
