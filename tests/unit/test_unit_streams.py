"""The files that a unit's commands read and write: root opens them, in directories of the unit's user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from integration.support import wait_for

from sysenv_ns.within import execution
from sysenv_ns.within.execution import ExecLine
from sysenv_ns.within.identities import Identity
from sysenv_ns.within.units import OrderError, Unit

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="whose a link is, only root can choose")
_ME = Identity(os.geteuid(), os.getegid())
_LINE = ExecLine(("/bin/sh", "-c", "cat; echo said"))


def _run(**settings: str) -> None:
    unit = Unit("x.service", "", {("Service", key): (value,) for key, value in settings.items()})
    null = os.open(os.devnull, os.O_RDWR)
    try:
        child = execution.spawn(unit, _LINE, _ME, {"PATH": "/bin"}, null)
        wait_for(lambda: os.waitpid(child, os.WNOHANG)[0] == child)
    finally:
        os.close(null)


@pytest.mark.parametrize("kind", ["file", "append", "truncate"])
def test_a_users_link_does_not_lead_what_is_written(kind: str, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    _run(StandardOutput=f"{kind}:{link}")
    assert target.read_text() == "said\n"
    os.chown(link, 1, 1, follow_symlinks=False)
    target.write_text("root's")
    with pytest.raises(OrderError):
        _run(StandardOutput=f"{kind}:{link}")
    assert target.read_text() == "root's"


def test_nor_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    link, said = tmp_path / "link", tmp_path / "said"
    link.symlink_to(tmp_path / "secret")
    _run(StandardInput=f"file:{link}", StandardOutput=f"file:{said}")
    assert said.read_text() == "secret\nsaid\n"
    os.chown(link, 1, 1, follow_symlinks=False)
    with pytest.raises(OrderError):
        _run(StandardInput=f"file:{link}", StandardOutput=f"file:{said}")
