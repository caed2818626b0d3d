"""Which attributes go into an archive."""

from __future__ import annotations

import pytest

from sysenv_ns.archive import attributes


@pytest.mark.parametrize(
    "name",
    [
        *(b"user.x", b"user.overlay", b"user.\xff\n", b"trusted.x", b"security.capability"),
        *(b"system.posix_acl_access", b"system.posix_acl_default", b"user.overlay.overlay.opaque"),
    ],
)
def test_carried(name: bytes) -> None:
    assert attributes.is_carried(name)


@pytest.mark.parametrize(
    "name",
    [
        *(b"user.overlay.opaque", b"trusted.overlay.origin", b"user.overlay.x\n", b"user.fuseoverlayfs.opaque"),
        *(b"security.selinux", b"security.ima", b"system.nfs4_acl", b"", b"x", b"user", b"overlay.opaque"),
    ],
)
def test_not_carried(name: bytes) -> None:
    assert not attributes.is_carried(name)


@pytest.mark.parametrize(
    ("name", "unresolved"),
    [
        (b"user.overlay.metacopy", True),
        (b"trusted.overlay.redirect", True),
        (b"user.overlay.origin", False),
        (b"user.overlay.overlay.metacopy", False),
        (b"user.overlay.metacopy.x", False),
    ],
)
def test_of_a_file_that_is_not_whole(name: bytes, unresolved: bool) -> None:
    assert attributes.is_unresolved(name) == unresolved
