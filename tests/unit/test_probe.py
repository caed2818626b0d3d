"""What is said where the kernel cannot do what every driver needs."""

from __future__ import annotations

import errno

import pytest

from sysenv_ns import policy, sudo
from sysenv_ns.drivers import choose, diagnosis, probe
from sysenv_ns.drivers.diagnosis import Finding
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import NeedsRoot, SysenvError
from sysenv_ns.kernel import syscalls
from sysenv_ns.mapped import trees


def _failing(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def mount_setattr(mount_fd: int, path: str, attributes: int) -> None:
        raise OSError(number, "failed", path)

    monkeypatch.setattr(syscalls, "mount_setattr", mount_setattr)


def _never(question: str) -> bool:
    raise AssertionError(question)


@pytest.mark.parametrize("name", ["auto", *policy.DRIVERS])
def test_a_kernel_that_is_too_old(name: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even as root: nobody is asked anything first, nor for a password."""
    _failing(errno.ENOSYS, monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(SysenvError, match=r"too old.*mount_setattr") as caught:
        choose.choose(store, name, "auto", _never)
    assert not isinstance(caught.value, NeedsRoot)
    assert "Linux 5.12" in caught.value.hint
    assert list(store.path.rglob("probe*")) == []


def test_the_doctor_says_it_of_every_driver(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(errno.ENOSYS, monkeypatch)
    monkeypatch.setattr(probe, "try_emulation", lambda id_map: None)  # it is for a process of its own
    found = diagnosis.diagnose(store)
    said = {finding.subject: finding for finding in found.findings}
    for name in policy.DRIVERS:
        assert not said[f"driver {name}"].works
        assert "too old" in said[f"driver {name}"].detail
    assert found.driver is None


def test_a_call_that_fails_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(errno.EPERM, monkeypatch)
    store.prepare()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NeedsRoot):
        choose.choose(store, "root", "auto", None)


_LACKS_CONSENT = Finding(
    "driver idmap", False, "not prepared", "run: sysenv-ns host prepare (needs sudo, once after each boot)"
)
_FAILS = Finding("driver", False, "no", "do this")
_WORKS = Finding("driver", True)


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ({"stub": _WORKS, "idmap": _LACKS_CONSENT}, ("stub", ())),
        ({"idmap": _LACKS_CONSENT, "copy": _WORKS, "fuse": _WORKS}, ("fuse", ("idmap", "copy"))),
        ({"idmap": _FAILS, "copy": _WORKS, "fuse": _WORKS}, ("fuse", ("copy",))),
        ({"idmap": _LACKS_CONSENT, "copy": _FAILS, "root": _WORKS}, ("root", ("idmap",))),
        ({"copy": _WORKS}, (None, ("copy",))),
        ({}, (None, ())),
    ],
)
def test_what_a_user_without_a_terminal_gets_and_what_others_are_asked(
    findings: dict[str, Finding],
    expected: tuple[str | None, tuple[str, ...]],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `choose` would do it."""
    store.prepare()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(sudo, "available", lambda: True)
    monkeypatch.setattr(trees, "is_prepared", lambda uid, gid: False)
    found = {name: findings.get(name, _FAILS) for name in policy.DRIVERS}
    assert diagnosis._chosen(store, found) == expected


def test_a_copy_that_is_there_is_used_without_a_question(store: Store) -> None:
    store.prepare()
    (store.base / "copy-full-1").mkdir()
    found = {name: _WORKS if name in ("copy", "fuse") else _FAILS for name in policy.DRIVERS}
    assert diagnosis._chosen(store, found) == ("copy", ())
