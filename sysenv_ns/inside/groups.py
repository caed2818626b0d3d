"""Gives a session the groups that the environment has given its user; changes none of the environment's."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.inside import accounts
from sysenv_ns.kernel.idmap import IdMap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def grant(id_map: IdMap, of_host: Collection[int], notice: Callable[[str], None]) -> None:
    """Join the groups that /etc/group inside gives this user beyond those of the host, which are `of_host`.

    setgroups(2) takes all at once and only those with a number inside, which the host's have not (user_namespaces(7)).
    Access to the host's devices and sockets hangs on these: whoever has any keeps them instead. Raises OSError.
    """
    granted = _granted(id_map, of_host)
    if not granted:
        return
    lost = [number for number in of_host if number != id_map.own_gid]
    if not lost:
        os.setgroups(sorted({id_map.own_gid, *granted.values()}))
        return
    names = {number: name for name, number in accounts.groups().items()}
    notice(
        f"you are not in the environment's group {', '.join(granted)}, as that would lose you the host's "
        f"{', '.join(names.get(number, str(number)) for number in lost)}; to run a command with both: "
        f"sudo -g {next(iter(granted))} COMMAND"
    )


def _granted(id_map: IdMap, of_host: Collection[int]) -> dict[str, int]:
    """The numbers by names."""
    mine = {name for name, number in accounts.users().items() if number == id_map.own_uid}
    known = {id_map.own_gid, *of_host}
    return {
        name: number
        for name, number, users in accounts.members()
        if number not in known and mine & set(users) and id_map.has_gid(number)
    }
