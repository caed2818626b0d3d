"""What helpers/bench finds out about the tool that it measures."""

from __future__ import annotations

import sys

import pytest
from bench.accounts import Failure
from bench.environments import python_of

from sysenv_ns.environment import wrappers
from sysenv_ns.environment.store import Store

from .samples import add_environment


@pytest.mark.parametrize("python", [sys.executable, "/home/a b/.cache/sysenv-ns/venv-0/bin/python"])
def test_a_linked_command_names_the_python_of_the_tool(
    store: Store, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    """Also where a checkout has no virtual environment of its own, as it belongs to somebody else."""
    environment = add_environment(store, "idle")
    monkeypatch.setattr(sys, "executable", python)
    assert python_of(wrappers.script(store, environment, "/usr/bin/true").decode()) == python


@pytest.mark.parametrize("script", ["", "#!/bin/sh\n", "#!/bin/sh\nexec \n"])
def test_another_script_does_not(script: str) -> None:
    with pytest.raises(Failure, match="no exec"):
        python_of(script)
