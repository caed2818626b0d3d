"""A fault of the tool inside an environment: nothing is imported from there or written to it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from integration.support import BASE_LIMIT, Environment, describe, ran, succeeded

pytestmark = pytest.mark.modes("full", "single", "root")

# A function fails, and from then on every import and open is told.
_FAIL = """
import sys
from sysenv_ns import session
def tell(event, arguments):
    if event in ("import", "open"):
        sys.stderr.write(f"{event} {arguments[0]}\\n")
def fail(*arguments):
    if TELLING:
        sys.addaudithook(tell)
    raise KeyError("inside")
PLACE = fail
from sysenv_ns.__main__ import main
main()
"""

# What is imported where / is another one.
_TELL = """
import os, sys
host = os.stat("/")
def tell(event, arguments):
    if event == "import" and not os.path.samestat(os.stat("/"), host):
        sys.stderr.write(f"{event} {arguments[0]}\\n")
sys.addaudithook(tell)
from sysenv_ns.__main__ import main
main()
"""


def _run(environment: Environment, place: str, telling: bool) -> subprocess.CompletedProcess[str]:
    script = _FAIL.replace("PLACE", place).replace("TELLING", str(telling))
    return _by(script, environment, "exec", environment.name, "--", "true")


def _by(script: str, environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    tool = environment.tool
    python = str(tool.launcher.parent.parent / ".venv/bin/python")
    command = [*tool.beginning, python, "-I", "-c", script, *arguments]
    return ran(command, limit=BASE_LIMIT, env=tool.variables(), cwd=tool.account.home)


def _reports(environment: Environment) -> list[Path]:
    return [*environment.tool.store.glob("sysenv-ns-report-*")]


def test_after_the_pivot_nothing_is_written(environment: Environment) -> None:
    succeeded(environment.exec("true"))
    for place in ("session.become", "session._change_directory"):
        result = _run(environment, place, telling=True)
        assert result.returncode == 70, describe(result)
        expected = "sysenv-ns: this is a bug in sysenv-ns (KeyError); no report could be written\n"
        assert result.stderr == expected, describe(result)
    assert _reports(environment) == []
    assert environment.sh("find / -xdev -name 'sysenv-ns-report-*' -print 2>/dev/null || true") == ""


def test_before_it_a_report_is_written(environment: Environment) -> None:
    for number, place in enumerate(("session.variables_of", "session.state.record"), 1):
        result = _run(environment, place, telling=False)
        assert result.returncode == 70, describe(result)
        assert "Traceback" not in result.stderr
        assert len(_reports(environment)) == number, describe(result)
    for path in _reports(environment):
        assert "KeyError: 'inside'" in path.read_text()
        assert (path.lstat().st_mode & 0o777, path.lstat().st_uid) == (0o600, environment.tool.account.uid)
        os.unlink(path)


def test_a_session_imports_nothing_inside(environment: Environment) -> None:
    name = environment.name
    calls = ("exec", name, "--", "true"), ("exec", "--linked", name, "true"), ("exec", name, "nothing"), ("shell", name)
    for call in calls:
        result = _by(_TELL, environment, *call)
        assert "import" not in result.stderr, describe(result)
        assert result.returncode == (127 if call[-1] == "nothing" else 0), describe(result)
