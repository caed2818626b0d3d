"""Who is waited for when an environment has just ended, and for how long."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sysenv_ns.environment import ending
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.state import State
from sysenv_ns.environment.store import Store
from sysenv_ns.kernel import namespace, overlay

from .samples import add_environment


@pytest.fixture
def environment(store: Store) -> Environment:
    return add_environment(store, "proj")


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """One that does not end by itself."""
    monkeypatch.setattr(ending, "_PATIENCE", 0.1)
    monkeypatch.setattr(ending, "_BETWEEN", 0.05)
    with subprocess.Popen(["sleep", "infinity"]) as process:
        yield process
        process.kill()


def _state(user_namespace: int) -> State:
    return State(1, 1, "", 1, user_namespace, ())


def _waited(process: subprocess.Popen[bytes], environment: Environment, state: State | None) -> tuple[bool, list[str]]:
    told: list[str] = []
    ending.wait([process.pid], environment, state, told.append)
    return process.poll() is not None, told


def test_those_of_the_environment_are_waited_for(process: subprocess.Popen[bytes], environment: Environment) -> None:
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        process.kill()

    ending.wait([process.pid], environment, _state(namespace.identity_of_own("user")), tell)
    assert process.poll() is not None
    assert len(told) == 1
    assert "proj" in told[0]


@pytest.mark.parametrize("state", [None, _state(1)])
def test_others_are_not(process: subprocess.Popen[bytes], environment: Environment, state: State | None) -> None:
    assert _waited(process, environment, state) == (False, [])


def test_not_without_end(
    process: subprocess.Popen[bytes], environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_WRITING_PATIENCE", 0.1)
    has_ended, told = _waited(process, environment, _state(namespace.identity_of_own("user")))
    assert not has_ended
    assert len(told) == 1


def test_of_roots_processes_the_mount_is_asked_for(
    process: subprocess.Popen[bytes], environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any process of root's is in the same user namespace."""
    answers = iter([True, True, False])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(overlay, "is_mounted", lambda upper: next(answers))
    of_root = replace(environment, id_map=None, driver="root")
    has_ended, told = _waited(process, of_root, _state(namespace.identity_of_own("user")))
    assert not has_ended
    assert len(told) == 1
    assert next(answers, None) is None


def test_who_is_gone_is_not_waited_for(
    process: subprocess.Popen[bytes], environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "_PATIENCE", 60)
    process.kill()
    process.wait()
    begin = time.monotonic()
    assert _waited(process, environment, None) == (True, [])
    assert time.monotonic() - begin < ending._PATIENCE
