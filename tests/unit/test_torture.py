"""Which processes helpers/torture takes for its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from torture import Torture, start_time


@pytest.fixture
def torture(tmp_path: Path) -> Torture:
    return Torture(tool="true", options=(), directory=tmp_path, store=tmp_path, seed=1)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "infinity"], start_new_session=True) as process:
        yield process
        process.kill()


def test_what_was_started_is_found(torture: Torture) -> None:
    process = torture.start((), 0)
    assert torture.sessions == {process.pid: start_time(process.pid)}
    process.wait()
    assert torture.processes() == []


def test_by_its_session(torture: Torture, process: subprocess.Popen[bytes]) -> None:
    torture.sessions[process.pid] = start_time(process.pid)
    assert torture.processes() == [(process.pid, "sleep")]


def test_not_who_has_got_its_number(torture: Torture, process: subprocess.Popen[bytes]) -> None:
    torture.sessions[process.pid] = "1"
    assert torture.processes() == []


def test_by_its_variables(torture: Torture) -> None:
    variables = os.environ | {"TORTURE": torture.token}
    with subprocess.Popen(["sleep", "infinity"], env=variables, start_new_session=True) as process:
        assert torture.processes() == [(process.pid, "sleep")]
        process.kill()
