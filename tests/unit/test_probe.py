"""What is said where the kernel cannot do what every driver needs."""

from __future__ import annotations

import errno

import pytest

from sysenv_ns.drivers import driver, probe
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import NeedsRoot, SysenvError
from sysenv_ns.kernel import idmap, syscalls


def _failing(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def mount_setattr(mount_fd: int, path: str, attributes: int) -> None:
        raise OSError(number, "failed", path)

    monkeypatch.setattr(syscalls, "mount_setattr", mount_setattr)


@pytest.mark.parametrize("name", ["stub", "copy", "fuse", "root"])
def test_a_kernel_that_is_too_old(name: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even as root: nobody is asked for a password first."""
    _failing(errno.ENOSYS, monkeypatch)
    with pytest.raises(SysenvError, match=r"too old.*mount_setattr") as caught:
        probe.try_driver(store, driver.get(name), idmap.single(1000, 1000))
    assert not isinstance(caught.value, NeedsRoot)
    assert "Linux 5.12" in caught.value.hint
    assert list(store.path.rglob("probe*")) == []


def test_a_call_that_fails_is_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(errno.EPERM, monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NeedsRoot):
        probe.try_driver(store, driver.get("root"), None)
