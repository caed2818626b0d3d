"""For whom the host's side acts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sysenv_ns.kernel import answers, visits
from sysenv_ns.kernel.visits import Standing

MOUNTS = 77
OWN = Standing((1000,) * 4, False, 0, "unconfined", (1, 2, 3, 4, 5), 6, "/home/of/a/chroot")
CALLER = Standing((1000,) * 4, False, 1, "unconfined", (1, 2, 3, 4, 5), MOUNTS, "/")


def test_the_user_may_call() -> None:
    assert visits.may_call(CALLER, OWN, MOUNTS)
    assert visits.may_call(replace(CALLER, filters=4), replace(OWN, filters=3), MOUNTS)  # in a container
    assert visits.may_call(replace(CALLER, filters=None), replace(OWN, filters=None), MOUNTS)
    assert visits.may_call(replace(CALLER, no_new_privileges=True), replace(OWN, no_new_privileges=True), MOUNTS)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("uid", [0, 100000, 100033])
def test_others_may_not_in_any_of_their_ids(place: int, uid: int) -> None:
    uids = [1000] * 4
    uids[place] = uid
    assert not visits.may_call(replace(CALLER, uids=tuple(uids)), OWN, MOUNTS)
    assert not visits.may_call(replace(CALLER, uids=(uid,) * 4), OWN, MOUNTS)


def test_nobody_may_where_the_user_is_root() -> None:
    assert not visits.may_call(replace(CALLER, uids=(0,) * 4), replace(OWN, uids=(0,) * 4), MOUNTS)


@pytest.mark.parametrize(
    "confined",
    [
        replace(CALLER, no_new_privileges=True),
        replace(CALLER, filters=2),
        replace(CALLER, filters=0),  # of no session
        replace(CALLER, filters=None),
        replace(CALLER, label="docker-default (enforce)"),
        replace(CALLER, label=""),
        replace(CALLER, namespaces=(1, 2, 7, 4, 5)),
        replace(CALLER, mounts=OWN.mounts),
        replace(CALLER, root="/srv/build"),
    ],
)
def test_the_confined_may_not(confined: Standing) -> None:
    assert not visits.may_call(confined, OWN, MOUNTS)


def test_the_name_is_one() -> None:
    """The supervisor does not load the other module before somebody calls."""
    assert visits.NAME.encode() == answers.VISIT
