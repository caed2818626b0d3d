"""The pure parts of the supervisor, and which calls a filter leaves to it."""

from __future__ import annotations

import struct

import pytest

from sysenv_ns.kernel import supervisor
from sysenv_ns.kernel.emulation import Filter
from sysenv_ns.kernel.idmap import Kind

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20  # linux/posix_acl.h
NO_ID = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("=I", 2) + b"".join(struct.pack("=HHI", *entry) for entry in entries)


def test_entries_for_others_than_root_are_left_out() -> None:
    owner, group, mask, other = (USER_OBJ, 6, NO_ID), (GROUP_OBJ, 4, NO_ID), (MASK, 7, NO_ID), (OTHER, 4, NO_ID)
    given = acl(owner, (USER, 4, 0), (USER, 4, 33), group, (GROUP, 6, 44), (GROUP, 2, 0), mask, other)
    assert supervisor.possible_acl(given) == acl(owner, (USER, 4, 0), group, (GROUP, 2, 0), mask, other)


def test_a_list_without_such_entries_stays_as_it_is() -> None:
    given = acl((USER_OBJ, 6, NO_ID), (GROUP_OBJ, 4, NO_ID), (OTHER, 4, NO_ID))
    assert supervisor.possible_acl(given) == given


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(ValueError, match="abc"):
        supervisor.possible_acl(acl() + b"abc")


@pytest.mark.parametrize(
    ("kind", "names"),
    [("full", {"mknod", "mknodat"}), ("single", {"mknod", "mknodat", "setxattr", "lsetxattr", "fsetxattr"})],
)
def test_calls_that_are_left_to_the_supervisor(kind: Kind, names: set[str]) -> None:
    calls = Filter(kind).calls
    assert set(calls.values()) <= names
    assert "mknodat" in calls.values()
    assert Filter(kind, supervised=False).calls == {}
