"""How operations describe themselves for -v."""

from __future__ import annotations

import pytest

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
