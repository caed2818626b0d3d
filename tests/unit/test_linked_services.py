"""The units of the user's manager: what systemd reads in them, whatever the paths are."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.home import services
from sysenv_ns.verbs import remove


def _settings(monkeypatch: pytest.MonkeyPatch, python: str, store: str) -> dict[str, str]:
    monkeypatch.setattr(sys, "executable", python)
    environment = Environment("proj", "0", "stub", None, 0.0, Path(store), Path(store))
    text = services._text(Store(Path(store)), environment, "x@one.service")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_plain_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _settings(monkeypatch, "/usr/bin/python3", "/home/you/store")
    tool = "/usr/bin/python3 -I -m sysenv_ns"
    assert found["ExecStart"] == f"{tool} start proj x@one.service"
    assert found["ExecStop"] == f"{tool} exec proj -- /usr/lib/sysenv-ns/bin/systemctl stop x@one.service"
    assert found["Environment"] == "SYSENV_NS_HOME=/home/you/store"


def test_odd_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _settings(monkeypatch, "/a of 100% $HOME/python", '/a "b" 100%\\c')
    # A dollar sign in the program is none of a variable.
    assert found["ExecStart"] == '"/a of 100%% $HOME/python" -I -m sysenv_ns start proj x@one.service'
    assert found["Environment"] == '"SYSENV_NS_HOME=/a \\"b\\" 100%%\\\\c"'
    assert services._command(["/bin/x", "$A"]) == '/bin/x "$$A"'


def test_names() -> None:
    assert services.full_name("redis-server") == "redis-server.service"
    assert services.full_name("x.timer") == "x.timer"
    assert services.own_name("proj", "postgresql@15-main.service") == "sysenv-ns-proj-postgresql@15-main.service"
    assert services.own_name("proj", "x.socket") == "sysenv-ns-proj-x.socket.service"
    for wrong in ("", "a/b", "-x", ".x", "a b", "a%b", "a@b@c"):
        with pytest.raises(SysenvError):
            services.full_name(wrong)


def test_a_manager_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is removed is removed: that is said, and the others follow."""

    def fail(variables: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(services, "tell_manager", fail)
    remove._tell_manager()
    assert "Too many open files" in capsys.readouterr().err
