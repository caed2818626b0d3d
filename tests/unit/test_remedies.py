"""Which remedy is printed for which failure."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sysenv_ns import policy
from sysenv_ns.drivers import driver
from sysenv_ns.kernel import remedies

STORE = Path("/home/you/.local/share/sysenv-ns")
APPARMOR = ("kernel/apparmor_restrict_unprivileged_userns", "1")
CLONE = ("kernel/unprivileged_userns_clone", "0")


def on_a_host(
    monkeypatch: pytest.MonkeyPatch, *settings: tuple[str, str], filtered: bool = False, fstype: str = "ext4"
) -> None:
    """A host with these sysctls, seccomp filter and file system of the store."""
    monkeypatch.setattr(remedies, "_is_set", lambda name, value: (name, value) in settings)
    monkeypatch.setattr(remedies, "_seccomp_filtered", lambda: filtered)
    monkeypatch.setattr(remedies, "filesystem", lambda path: fstype)


@pytest.mark.parametrize(
    ("settings", "filtered", "number", "expected"),
    [
        ([], False, errno.ENOSPC, "user.max_user_namespaces"),
        ([CLONE], True, errno.ENOSPC, "user.max_user_namespaces"),
        ([], False, errno.EINVAL, "WSL 2"),
        ([CLONE], False, errno.EPERM, "kernel.unprivileged_userns_clone=1"),
        ([], True, errno.EPERM, "seccomp=unconfined"),
        ([], False, errno.EPERM, "chroot"),
        ([APPARMOR], True, errno.EPERM, "sysenv-ns host prepare --launcher"),
        ([APPARMOR], False, errno.ENOSPC, "user.max_user_namespaces"),
    ],
)
@pytest.mark.parametrize("stage", [remedies.USER_NAMESPACE, remedies.MOUNT_NAMESPACE])
def test_namespaces(
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    settings: list[tuple[str, str]],
    filtered: bool,
    number: int,
    expected: str,
) -> None:
    on_a_host(monkeypatch, *settings, filtered=filtered)
    assert expected in remedies.remedy(stage, OSError(number, "reason"))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "writable"),
        (errno.EOPNOTSUPP, "user attributes"),
        (errno.EACCES, "yours"),
        (errno.EIO, "look at"),
    ],
)
def test_storage(number: int, expected: str) -> None:
    text = remedies.storage(OSError(number, "reason"), STORE)
    assert expected in text
    assert str(STORE) in text
    assert "SYSENV_NS_HOME" in text


@pytest.mark.parametrize("stage", [remedies.ID_MAP, remedies.PROPAGATION, remedies.OVERLAY])
def test_apparmor_shows_at_any_stage(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    on_a_host(monkeypatch, APPARMOR)
    assert "host prepare --launcher" in remedies.remedy(stage, OSError(errno.EACCES, "reason"), STORE)


@pytest.mark.parametrize(
    ("fstype", "number", "expected"),
    [
        ("nfs4", errno.EINVAL, "nfs4"),
        ("overlay", errno.EINVAL, "SYSENV_NS_HOME"),
        ("fuse", errno.EINVAL, "lies on fuse"),
        ("vfat", errno.EOPNOTSUPP, "lies on vfat"),
        ("ext4", errno.EINVAL, "6.16"),
        ("ext4", errno.ENODEV, "6.16"),
        ("ext4", errno.ENOSPC, "free some space"),
        ("ext4", errno.ESTALE, "dmesg"),
    ],
)
def test_overlay(monkeypatch: pytest.MonkeyPatch, fstype: str, number: int, expected: str) -> None:
    on_a_host(monkeypatch, fstype=fstype)
    error = OSError(number, "reason")
    assert expected in remedies.remedy(remedies.OVERLAY, error, STORE, driver.get("stub").remedy(error))


@pytest.mark.parametrize("name", policy.DRIVERS)
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENODEV, errno.EACCES])
def test_every_driver_has_a_remedy(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    on_a_host(monkeypatch, fstype="ext4")
    error = OSError(number, "reason")
    assert remedies.remedy(remedies.OVERLAY, error, STORE, driver.get(name).remedy(error))


def test_anything_else_is_for_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_host(monkeypatch)
    assert "doctor" in remedies.remedy(remedies.ID_MAP, OSError(errno.EPERM, "reason"))


def test_the_file_system_of_a_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc/self")
    assert remedies.filesystem(Path("/proc")) == remedies.filesystem(tmp_path / "link") == "proc"
    assert remedies.filesystem(tmp_path / "absent") == remedies.filesystem(tmp_path)


def test_settings_are_read_and_may_be_absent() -> None:
    assert remedies._is_set("kernel/ostype", "Linux")
    assert not remedies._is_set("kernel/ostype", "1")
    assert not remedies._is_set("kernel/no_such_setting", "1")
