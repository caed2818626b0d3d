"""An environment whose services cannot be seen is not waited for."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from sysenv_ns import joined, units
from sysenv_ns.environment import running
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.verbs import stop

from .conftest import Run


@pytest.fixture
def silent(environments: Store, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """It runs, and what it says of its services lies on a file system that does not answer."""

    def never() -> tuple[tuple[str, str], ...]:
        time.sleep(20)
        return ()

    mounts = SimpleNamespace(join=lambda: None, close=lambda: None)
    monkeypatch.setattr(running, "find", lambda environment: mounts)
    monkeypatch.setattr(joined, "be_root", lambda environment, emulated: None)
    monkeypatch.setattr(units, "_read", never)
    monkeypatch.setattr(units, "_LOOK", 1, raising=False)
    return environments.load("whole")


def test_stop_goes_on(silent: Environment, environments: Store, capfd: pytest.CaptureFixture[str]) -> None:
    assert stop.stop_services(environments, silent.name) == []
    assert "cannot be listed" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["link", "whole"], "Give a COMMAND, or --service UNIT."),
        (["link", "whole", "--service", "x", "--desktop"], "--desktop needs a COMMAND."),
        (["unlink", "whole", "--service", "../x"], "is not the name of a service"),
    ],
)
def test_wrong_usage_of_links(run: Run, environments: Store, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, said in result.stderr) == (2, True), result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exec", "--init", "--ephemeral", "whole", "--", "true"], "--init needs an environment that stays"),
        (["start", "--foreground", "whole"], "is for an environment that was made with --init"),
    ],
)
def test_wrong_usage_of_process_one(run: Run, environments: Store, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, said in " ".join(result.stderr.split())) == (2, True), result.output


def test_an_environment_keeps_what_is_its_process_one(run: Run, environments: Store) -> None:
    result = run("exec", "--init", "whole", "--", "true")
    assert (result.exit_code, "whole already exists, without systemd as its process 1" in result.stderr) == (125, True)
