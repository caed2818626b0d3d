"""What is said where the kernel cannot do what every driver needs."""

from __future__ import annotations

import errno

import pytest

from sysenv_ns import policy
from sysenv_ns.drivers import choose, diagnosis, probe
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import NeedsRoot, SysenvError
from sysenv_ns.kernel import syscalls


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
