"""The pure parts of the supervisor, and which calls a filter leaves to it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import answers, looker, namespace, unotify
from sysenv_ns.kernel.duties import Duties
from sysenv_ns.kernel.emulation import Filter
from sysenv_ns.kernel.idmap import IdMap, Kind
from sysenv_ns.kernel.supervisor import Supervisor
from sysenv_ns.kernel.unotify import Notification

from .samples import FULL

USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20  # linux/posix_acl.h
NO_ID = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("=I", 2) + b"".join(struct.pack("=HHI", *entry) for entry in entries)


def test_entries_for_others_than_root_are_left_out() -> None:
    owner, group, mask, other = (USER_OBJ, 6, NO_ID), (GROUP_OBJ, 4, NO_ID), (MASK, 7, NO_ID), (OTHER, 4, NO_ID)
    given = acl(owner, (USER, 4, 0), (USER, 4, 33), group, (GROUP, 6, 44), (GROUP, 2, 0), mask, other)
    assert answers.possible_acl(given) == acl(owner, (USER, 4, 0), group, (GROUP, 2, 0), mask, other)


def test_a_list_without_such_entries_stays_as_it_is() -> None:
    given = acl((USER_OBJ, 6, NO_ID), (GROUP_OBJ, 4, NO_ID), (OTHER, 4, NO_ID))
    assert answers.possible_acl(given) == given


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(ValueError, match="abc"):
        answers.possible_acl(acl() + b"abc")


@pytest.mark.parametrize("name", ["mknod", "mknodat", "rename", "renameat", "renameat2", "link", "linkat", "setxattr"])
def test_nothing_is_looked_at_for_who_made_a_namespace_inside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory can be a file of a file system that never answers, and so can what its names lead to."""

    def look(*arguments: object) -> NoReturn:
        raise AssertionError(arguments)

    monkeypatch.setattr(namespace, "is_of_a_session", lambda thread: False)
    monkeypatch.setattr(unotify, "process_vm_readv", look)
    names = answers.UpperNames(-1, looker.Looker(-1, -1))
    call = Notification(1, os.getpid(), 2, 3, (1, 2, 3, 4, 5, 6))
    assert answers.plan(call, {(2, 3): name}, names) is None


_IN_BOTH = {"chroot", "mknod", "mknodat", "rename", "renameat", "renameat2", "link", "linkat"} | {
    *("mount", "umount2", "fsopen", "open_tree"),
}


@pytest.mark.parametrize(
    ("kind", "names"), [("full", _IN_BOTH), ("single", _IN_BOTH | {"setxattr", "lsetxattr", "fsetxattr"})]
)
def test_calls_that_are_left_to_the_supervisor(kind: Kind, names: set[str]) -> None:
    calls = Filter(kind).calls
    assert set(calls.values()) <= names
    assert "mknodat" in calls.values()
    assert Filter(kind, supervised=False).calls == {}


@pytest.fixture
def supervisor(request: pytest.FixtureRequest) -> Iterator[Supervisor]:
    """One that looks as the test wants it to, and has nothing to supervise."""
    supervisor = Supervisor(FULL, {}, Duties(look=request.param))
    yield supervisor
    supervisor._socket.close()
    supervisor.wait()


def _refuse(id_map: IdMap) -> NoReturn:
    raise SysenvError("newuidmap refused the id map: no", "give yourself a range")


@pytest.mark.parametrize("supervisor", [lambda: b"seen"], indirect=True)
def test_it_tells_first_what_it_has_looked_at(supervisor: Supervisor) -> None:
    assert supervisor.looked() == b"seen"
    assert supervisor.looked() is None


@pytest.mark.parametrize("look", [None, lambda: b"seen, and nobody asks"])
def test_a_namespace_that_cannot_be_made_says_why(
    look: Callable[[], bytes] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespace, "make_full", _refuse)
    supervisor = Supervisor(FULL, {}, Duties(look=look))
    supervisor.make_namespace()
    with pytest.raises(SysenvError, match="newuidmap refused the id map: no") as raised:
        supervisor.made_namespace()
    assert raised.value.hint == "give yourself a range"
    supervisor._socket.close()


@pytest.mark.parametrize("supervisor", [lambda: os._exit(0)], indirect=True)
def test_one_that_has_ended_is_an_error(supervisor: Supervisor) -> None:
    with pytest.raises(SysenvError, match="the system call supervisor has ended"):
        supervisor.looked()
