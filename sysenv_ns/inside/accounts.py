"""The users and groups of the environment that this process is in, read from its files, without its libraries; and the
groups that a session has by these. Changes none of the environment's.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.files import reader
from sysenv_ns.kernel.idmap import IdMap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_PASSWD, _GROUP = "/etc/passwd", "/etc/group"


def users() -> dict[str, int]:
    """The numbers of the users, by their names."""
    return {row[0]: int(row[2]) for row in _rows(_PASSWD)}


def shells() -> frozenset[tuple[int, str]]:
    """The numbers of the users with their login shells."""
    return frozenset((int(row[2]), row[6]) for row in _rows(_PASSWD) if len(row) > 6)


def groups() -> dict[str, int]:
    """The numbers of the groups, by their names."""
    return {row[0]: int(row[2]) for row in _rows(_GROUP)}


def members() -> list[tuple[str, int, list[str]]]:
    """The groups: name, number, and the names of the users that are in them beside those whose own one it is."""
    return [(row[0], int(row[2]), row[3].split(",")) for row in _rows(_GROUP) if len(row) > 3]


def grant_groups(id_map: IdMap, of_host: Collection[int], notice: Callable[[str], None]) -> None:
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
    names = {number: name for name, number in groups().items()}
    notice(
        f"you are not in the environment's group {', '.join(granted)}, as that would lose you the host's "
        f"{', '.join(names.get(number, str(number)) for number in lost)}; to run a command with both: "
        f"sudo -g {next(iter(granted))} COMMAND"
    )


def _granted(id_map: IdMap, of_host: Collection[int]) -> dict[str, int]:
    """The numbers by names."""
    mine = {name for name, number in users().items() if number == id_map.own_uid}
    known = {id_map.own_gid, *of_host}
    return {
        name: number
        for name, number, users in members()
        if number not in known and mine & set(users) and id_map.has_gid(number)
    }


def _rows(path: str) -> list[list[str]]:
    """The lines that are entries; none where the file cannot be read, which programs inside will then tell."""
    try:
        text = reader.read(path, follow=True).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    rows = (line.split(":") for line in text.splitlines() if "\0" not in line)
    return [row for row in rows if len(row) > 2 and documents.decimal(row[2]) is not None]
