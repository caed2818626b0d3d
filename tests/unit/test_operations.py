"""How operations describe themselves for -v, and find the place of a mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.basics import opened
from sysenv_ns.kernel import syscalls
from sysenv_ns.kernel.operations import Bind, Directory, File, Operation, Symlink, Tmpfs
from sysenv_ns.kernel.overlay import Overlay


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (
            Overlay("/", "sysenv-ns:x", ("/a", "/b"), "/e/upper", "/e/work", ("/usr", "/opt")),
            "overlay / lower=/a:/b::/usr::/opt upper=/e/upper,userxattr,index=on",
        ),
        (
            Overlay("/var", "sysenv-ns:x", ("/var",), "/e/upper", "/e/work", unprivileged=False),
            "overlay /var lower=/var upper=/e/upper",
        ),
        (Bind("/home", "/home"), "bind /home on /home"),
        (Bind("/boot/efi", "/boot/efi", readonly=True), "bind /boot/efi on /boot/efi read-only"),
        (Tmpfs("/run", 0o755), "tmpfs /run mode=755"),
        (Directory("/run/lock", 0o1777, 0, 4), "mkdir /run/lock mode=1777 owner=0:4"),
        (Symlink("/run/shm", "/dev/shm"), "symlink /run/shm to /dev/shm"),
        (File("/run/motd", 0o644, 0, 0, b"hello"), "write /run/motd (5 bytes)"),
    ],
)
def test_describe(operation: Operation, text: str) -> None:
    assert operation.describe() == text


def test_a_mount_point_that_was_there_after_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system in user space may say once that there is none."""
    (tmp_path / "proc").mkdir()
    lies, attached = [FileNotFoundError("/proc")], []
    real = syscalls.openat2

    def forgetful(directory: int, path: str, flags: int, resolve: int) -> int:
        if lies:
            raise lies.pop()
        return real(directory, path, flags, resolve)

    def move_mount(mount: int, point: int, name: str) -> None:
        attached.append((mount, os.fstat(point).st_ino, name))

    monkeypatch.setattr(syscalls, "openat2", forgetful)
    monkeypatch.setattr(syscalls, "move_mount", move_mount)
    with opened(os.open(tmp_path, os.O_PATH)) as root:
        Bind("/proc", "/proc").attach(root, 7)
    assert attached == [(7, (tmp_path / "proc").stat().st_ino, "/proc")]
