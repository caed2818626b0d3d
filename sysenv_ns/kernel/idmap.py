"""Chooses and installs the id maps of a user namespace (user_namespaces(7)); creates no namespace."""

from __future__ import annotations

import os
import pwd
import stat

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.basics import suppress
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import children, ownership, processes
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Literal, TypeAlias

Kind: TypeAlias = "Literal['full', 'single']"

OVERFLOW_ID = 65534
_NEEDED = 65535  # ids 0 to 65534: every system id of a distribution, and nobody

_FIELDS = ("kind", "uids", "gids", "own_uid", "own_gid")  # of its JSON
_PARTS = ("inside", "outside", "count")

_GRANTS = ("/etc/subuid", "/etc/subgid")
_FIRST_RANGE, _RANGE = 100000, 65536  # where the ranges begin, and how long each is: login.defs(5), as shadow has them
_PROGRAMS_HINT = "install newuidmap and newgidmap (package uidmap or shadow-utils)"
_CONFINED_HINT = (
    "no_new_privs is set here, as in many sandboxes, containers and services, and takes away the rights of newuidmap: "
    "start sysenv-ns outside of that, or create an environment with --id-map single"
)


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


def full(uid: int, gid: int, subuids: Iterable[Extent], subgids: Iterable[Extent]) -> IdMap:
    """The map that keeps the caller's own number and fills all others from the subordinate ranges."""
    return IdMap("full", _around(uid, subuids), _around(gid, subgids), own_uid=uid, own_gid=gid)


def _around(own: int, ranges: Iterable[Extent]) -> tuple[Extent, ...]:
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


def _disjoint(ranges: Iterable[Extent], own: int) -> list[tuple[int, int]]:
    """Start and count of the ranges without overlaps (a range may be granted by name and by number).

    The kernel refuses a map that names an id of the parent namespace twice.
    """
    taken = [(own, own + 1)]
    pieces: list[tuple[int, int]] = []
    for piece in ranges:
        start, end = piece.outside, piece.outside + piece.count
        for low, high in sorted(taken):
            if low < end and high > start:
                pieces.append((start, low - start))
                start = high
        pieces.append((start, end - start))
        taken.append((piece.outside, end))
    return [(start, count) for start, count in pieces if count > 0]


def parse_subordinate(text: str, user: str, uid: int) -> tuple[Extent, ...]:
    """The ranges of one user in /etc/subuid or /etc/subgid (subuid(5)); invalid lines are ignored."""
    return tuple(Extent(0, start, count) for owner, start, count in _granted_in(text) if owner in (user, str(uid)))


def _granted_in(text: str) -> Iterator[tuple[str, int, int]]:
    """Whose the ranges are, their first ids and lengths."""
    for line in text.splitlines():
        owner, _, numbers = line.strip().partition(":")
        start, _, count = numbers.partition(":")
        if _is_id(start) and _is_id(count):
            yield owner, int(start), int(count)


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10  # ids have 32 bits


def detect_full() -> IdMap:
    """The full map of the calling user. Raises SysenvError if there is none, with the remedy."""
    for program in ("newuidmap", "newgidmap"):
        if find_program(program) is None:
            raise SysenvError(f"no full id map: {program} is not installed", _hint(_missing_hint(os.getuid())))
    return granted(os.getuid(), os.getgid())


def granted(uid: int, gid: int) -> IdMap:
    """The full map of a user as newuidmap(1) and newgidmap(1) let that one have it: the user's own ids, and what
    /etc/subuid and /etc/subgid grant by name or number. Raises SysenvError when there is none.
    """
    ranges = []
    for path in _GRANTS:
        found = parse_subordinate(_read(path), _user_name(uid), uid)
        if sum(extent.count for extent in found) < _NEEDED:
            what = "too few" if found else "no"
            whom = "you" if uid == os.getuid() else _user_name(uid)
            raise SysenvError(f"no full id map: {path} grants {whom} {what} subordinate ids", _hint(_range_hint(uid)))
        ranges.append(found)
    return full(uid, gid, *ranges)


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


def free_range(texts: Iterable[str]) -> int:
    """The first id of a range that none of these texts of subuid(5) grants to anybody."""
    first = _FIRST_RANGE
    for start, count in sorted((start, count) for text in texts for _, start, count in _granted_in(text)):
        if start < first + _RANGE and start + count > first:
            first = start + count
    return first


def _range_hint(uid: int) -> str:
    """How a user gets a range of ids of their own: who has those of somebody else owns that one's files."""
    first = free_range(map(_read, _GRANTS))
    name, ids = _user_name(uid), f"{first}-{first + _RANGE - 1}"
    whom = "yourself" if uid == os.getuid() else name
    return f"give {whom} a range: sudo usermod --add-subuids {ids} --add-subgids {ids} {name}"


def _missing_hint(uid: int) -> str:
    """What to do without newuidmap."""
    try:
        granted(uid, os.getgid())
    except SysenvError:
        return f"{_PROGRAMS_HINT} and {_range_hint(uid)}"
    return _PROGRAMS_HINT


def _refusal_hint(path: str) -> str:
    """What to do about a newuidmap or newgidmap that refuses a map which is granted."""
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        return f"{path} has no effect, as its file system is mounted nosuid here: start sysenv-ns where it is not"
    if not os.stat(path).st_mode & stat.S_ISUID and "security.capability" not in os.listxattr(path):
        again = "install it again (package uidmap or shadow-utils)"
        return f"{path} has lost its setuid bit: {again}, or sudo chmod u+s {path}"
    return _range_hint(os.getuid())


def _hint(usual: str) -> str:
    return _CONFINED_HINT if processes.no_new_privileges() else usual


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # absent or unreadable: it grants nothing
        return ""


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


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
    maps = {"newuidmap": id_map.uids, "newgidmap": id_map.gids}
    paths = {name: find_program(name) for name in maps}
    if missing := [name for name, path in paths.items() if path is None]:
        raise SysenvError(f"{missing[0]} is no longer installed", _hint(_missing_hint(os.getuid())))
    # Side by side: each takes as long as all the mounts together.
    started = [
        (name, children.SpawnedProgram(str(paths[name]), [name, str(pid), *_numbers(maps[name])], os.environ))
        for name in maps
    ]
    complaints = [(name, program.complaint()) for name, program in started]
    for name, complaint in complaints:
        if complaint is not None:
            raise SysenvError(f"{name} refused the id map: {complaint}", _hint(_refusal_hint(str(paths[name]))))


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
