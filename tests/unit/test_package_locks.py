"""Which locks of /proc/locks are those of a package manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysenv_ns import policy
from sysenv_ns.errors import SysenvError
from sysenv_ns.host import package_locks
from sysenv_ns.host.package_locks import Busy

_PLACES = {("253:0", 262145): "/var/lib/dpkg/lock", ("0:37", 9): "/var/lib/dpkg/lock-frontend"}


@pytest.mark.parametrize(
    ("line", "pid"),
    [
        ("1: POSIX  ADVISORY  WRITE 4711 fd:00:262145 0 EOF", 4711),
        ("2: POSIX  ADVISORY  WRITE 12 00:25:9 0 EOF", 12),
        ("3: POSIX  ADVISORY  READ 12 fd:00:262145 0 EOF", None),
        ("1: -> POSIX  ADVISORY  WRITE 4712 fd:00:262145 0 EOF", None),
        ("1: POSIX  ADVISORY  WRITE 4711 fd:01:262145 0 EOF", None),
        ("1: FLOCK  ADVISORY  WRITE 4711 fd:00:262145 0 EOF", 4711),
        ("1: POSIX  ADVISORY", None),
    ],
)
def test_who_holds_a_lock(line: str, pid: int | None) -> None:
    assert [busy.pid for busy in package_locks._holders(f"{line}\n".encode(), _PLACES)] == ([pid] if pid else [])


def test_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds a lock is waited for, and then it fails; what has been left over is told, and taken as it is."""
    monkeypatch.setattr(package_locks, "_PATIENCE", -1.0)
    monkeypatch.setattr(package_locks, "_PATIENCE_WITHOUT_LOCK", -1.0)
    notices: list[str] = []
    monkeypatch.setattr(package_locks, "look", lambda: Busy(1, "/var/lib/dpkg/lock"))
    with pytest.raises(SysenvError, match="process 1"):
        package_locks.wait(notices.append)
    assert notices == []
    monkeypatch.setattr(package_locks, "look", lambda: Busy(None, "/var/lib/dpkg/updates"))
    package_locks.wait(notices.append)
    assert "/var/lib/dpkg/updates" in notices[0]


def test_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "PACKAGE_LOCKS", ())
    monkeypatch.setattr(policy, "PACKAGE_JOURNALS", (str(tmp_path / "absent"), str(tmp_path)))
    assert package_locks.look() is None
    (tmp_path / "0001").touch()
    busy = package_locks.look()
    assert busy is not None
    assert busy.describe() == f"{tmp_path} is not empty"
