"""Chooses and installs the id maps of a user namespace (user_namespaces(7)); creates no namespace."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.basics import suppress
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import children, ownership
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, TypeAlias

    from sysenv_ns.kernel.subordinate import Range

Kind: TypeAlias = "Literal['full', 'single']"

OVERFLOW_ID = 65534
_PROGRAMS = ("newuidmap", "newgidmap")  # which map users, and groups
_FIELDS = ("kind", "uids", "gids", "own_uid", "own_gid")  # of its JSON
_PARTS = ("inside", "outside", "count")


@dataclass(frozen=True)
class Extent:
    """The `count` ids from `inside` on are the ids from `outside` on in the parent namespace."""

    inside: int
    outside: int
    count: int

    def has(self, number: int) -> bool:
        """Whether an id inside is one of them."""
        return self.inside <= number < self.inside + self.count


@dataclass(frozen=True)
class IdMap:
    """The uid and gid map of an environment, and which of the ids inside are the caller's own."""

    kind: Kind
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]
    own_uid: int
    own_gid: int

    def uid_inside(self, host_uid: int) -> int:
        """The owner of a host file inside: in the full map the same number, in the single map root."""
        return _same_number(host_uid, self.uids) if self.kind == "full" else 0

    def gid_inside(self, host_gid: int) -> int:
        """Like `uid_inside` for groups."""
        return _same_number(host_gid, self.gids) if self.kind == "full" else 0

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """The owner on the host of a file with this owner inside; the overflow id for one that does not exist there."""
        return _outside(uid, self.uids), _outside(gid, self.gids)

    def has_gid(self, inside: int) -> bool:
        """Whether a group has a number of the parent namespace."""
        return any(extent.has(inside) for extent in self.gids)


def _same_number(number: int, extents: Iterable[Extent]) -> int:
    return number if any(extent.has(number) for extent in extents) else OVERFLOW_ID


def _outside(number: int, extents: Iterable[Extent]) -> int:
    return next((extent.outside + number - extent.inside for extent in extents if extent.has(number)), OVERFLOW_ID)


def single(uid: int, gid: int) -> IdMap:
    """The map without privileges: the caller is root inside and no other user exists."""
    return IdMap("single", (Extent(0, uid, 1),), (Extent(0, gid, 1),), own_uid=0, own_gid=0)


def full(uid: int, gid: int, subuids: Iterable[Range], subgids: Iterable[Range]) -> IdMap:
    """The map that keeps the caller's own number and fills all others from the subordinate ranges."""
    return IdMap("full", _around(uid, subuids), _around(gid, subgids), own_uid=uid, own_gid=gid)


def _around(own: int, ranges: Iterable[Range]) -> tuple[Extent, ...]:
    extents = []
    position = 0
    for first, count in _disjoint(ranges, own):
        start, left = first, count
        if position < own < position + left:
            before = own - position
            extents.append(Extent(position, start, before))
            start, left, position = start + before, left - before, own
        if position == own:
            position += 1
        if left:
            extents.append(Extent(position, start, left))
        position += left
    return (*extents, Extent(own, own, 1))


def _disjoint(ranges: Iterable[Range], own: int) -> list[tuple[int, int]]:
    """First id and count of the ranges without overlaps (a range may be granted by name and by number).

    The kernel refuses a map that names an id of the parent namespace twice.
    """
    taken = [(own, own + 1)]
    pieces: list[tuple[int, int]] = []
    for piece in ranges:
        start, end = piece.first, piece.end
        for low, high in sorted(taken):
            if low < end and high > start:
                pieces.append((start, low - start))
                start = high
        pieces.append((start, end - start))
        taken.append((piece.first, end))
    return [(start, count) for start, count in pieces if count > 0]


def detect_full() -> IdMap:
    """The full map of the calling user. Raises SysenvError if there is none, with the remedy."""
    for program in _PROGRAMS:
        if find_program(program) is None:
            from sysenv_ns.kernel import subordinate

            raise SysenvError(f"no full id map: {program} is not installed", subordinate.missing_hint())
    return granted(os.getuid(), os.getgid())


def granted(uid: int, gid: int) -> IdMap:
    """The full map of a user as newuidmap(1) and newgidmap(1) let that one have it: the user's own ids, and what
    /etc/subuid and /etc/subgid grant by name or number. Raises SysenvError when there is none.
    """
    from sysenv_ns.kernel import subordinate  # a map is chosen once, and then used at each start

    return full(uid, gid, *subordinate.granted(uid))


def of_files(places: Iterable[Path]) -> IdMap | None:
    """The id map with which the calling user's files at these paths were made, by their owners; None for real root.

    Raises SysenvError if it is the full one and the user no longer has that.
    """
    uid = os.getuid()
    if os.geteuid() == 0:
        return None
    foreign = any(os.path.lexists(path) and path.lstat().st_uid != uid for path in places)
    return detect_full() if foreign else single(uid, os.getgid())


def widest() -> IdMap | None:
    """The id map in which all files of environments of the calling user can be deleted; None for real root.

    Raises nothing: without the full map, its files stay.
    """
    if os.geteuid() == 0:
        return None
    with suppress(SysenvError):
        return detect_full()
    return single(os.getuid(), os.getgid())


def find_program(name: str) -> str | None:
    """The absolute path of a program on PATH or in the system directories that users' PATHs often lack.

    For root, whose PATH may be that of the user it acts for, only in places that only root can change.
    """
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/sbin", "/bin", "/sbin"):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path) and ownership.is_safe(path):
            return path
    return None


def install_own_single(id_map: IdMap) -> None:
    """Write the single map of the calling process, which must just have entered its user namespace.

    Raises OSError. setgroups must be denied first (user_namespaces(7), Linux 3.19).
    """
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", _line(id_map.uids)),
        ("gid_map", _line(id_map.gids)),
    ):
        Path(f"/proc/self/{name}").write_text(text)


def install_as_root(pid: int, id_map: IdMap) -> None:
    """Write the maps of the user namespace of a child; for real root. Raises OSError."""
    for name, extents in (("uid_map", id_map.uids), ("gid_map", id_map.gids)):
        Path(f"/proc/{pid}/{name}").write_text(_line(extents))


def _line(extents: Iterable[Extent]) -> str:
    return "\n".join(f"{e.inside} {e.outside} {e.count}" for e in extents)


def install_full(pid: int, id_map: IdMap) -> None:
    """Give the user namespace of process `pid` its full map; called from outside. Raises SysenvError, OSError."""
    paths = {name: find_program(name) for name in _PROGRAMS}
    if missing := [name for name, path in paths.items() if path is None]:
        from sysenv_ns.kernel import subordinate

        raise SysenvError(f"{missing[0]} is no longer installed", subordinate.missing_hint())
    # Side by side: each takes as long as all the mounts together.
    started = [
        (name, children.SpawnedProgram(str(paths[name]), [name, str(pid), *_numbers(extents)], os.environ))
        for name, extents in zip(_PROGRAMS, (id_map.uids, id_map.gids), strict=True)
    ]
    complaints = [(name, program.complaint()) for name, program in started]
    for name, complaint in complaints:
        if complaint is not None:
            raise SysenvError(f"{name} refused the id map: {complaint}", _refusal_hint(str(paths[name]), id_map))


def _refusal_hint(program: str, id_map: IdMap) -> str:
    from sysenv_ns.kernel import subordinate

    maps = ((id_map.uids, os.getuid()), (id_map.gids, os.getgid()))
    return subordinate.refusal_hint(
        program, [[subordinate.Range(e.outside, e.count) for e in extents if e.outside != own] for extents, own in maps]
    )


def _numbers(extents: Iterable[Extent]) -> list[str]:
    return [str(number) for e in extents for number in (e.inside, e.outside, e.count)]


def from_data(value: object, what: str) -> IdMap | None:
    """An id map from JSON (dataclasses.asdict); None for null. Raises ValueError."""
    if value is None:
        return None
    data = documents.mapping(value, what)
    if data.keys() != set(_FIELDS) or data["kind"] not in ("full", "single"):
        raise ValueError(f"{what} is no id map")
    own_uid, own_gid = (documents.field(data, key, _id) for key in ("own_uid", "own_gid"))
    return IdMap(data["kind"], _extents(data["uids"]), _extents(data["gids"]), own_uid, own_gid)


def _extents(value: object) -> tuple[Extent, ...]:
    extents = [documents.mapping(extent, "an extent") for extent in documents.sequence(value, "a list of extents")]
    if any(extent.keys() != set(_PARTS) for extent in extents):
        raise ValueError("an extent has missing or unknown fields")
    return tuple(Extent(*(_id(extent[part], part) for part in _PARTS)) for extent in extents)


def _id(value: object, what: str) -> int:
    return documents.integer(value, what, 0, 0xFFFFFFFF)
