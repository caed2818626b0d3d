"""Places that parts of the tool have chosen independently of each other get along."""

from __future__ import annotations

from sysenv_ns import policy
from sysenv_ns.environment import rootstore
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.manifest import inspection


def test_what_an_environment_keeps_is_not_bound_from_the_host() -> None:
    assert not any(is_below(inspection.RECORD, place) for place in policy.HOST_STORES)


def test_what_root_keeps_is_bound_from_the_host() -> None:
    assert str(rootstore.PLACE) in policy.HOST_STORES
