"""Chooses and installs the id maps of a user namespace (user_namespaces(7)); creates no namespace."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import children

Kind = Literal["full", "single"]

OVERFLOW_ID = 65534
_NEEDED = 65535  # ids 0 to 65534: every system id of a distribution, and nobody

UIDMAP_HINT = (
    "install newuidmap and newgidmap (package uidmap or shadow-utils) and give yourself a range: "
    "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
)


@dataclass(frozen=True)
class Extent:
    """`count` ids from `inside` on are the ids from `outside` on of the parent namespace."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True)
class IdMap:
    """The uid and gid map of an environment, and which of the ids inside are the caller's own."""

    kind: Kind
    uids: tuple[Extent, ...]
    gids: tuple[Extent, ...]
    own_uid: int
    own_gid: int

    def uid_inside(self, host_uid: int) -> int:
        """The owner that a host file shall have inside: in the full map its own number, in the single map root."""
        return _same_number(host_uid, self.uids) if self.kind == "full" else 0

    def gid_inside(self, host_gid: int) -> int:
        """Like `uid_inside` for groups."""
        return _same_number(host_gid, self.gids) if self.kind == "full" else 0


def _same_number(number: int, extents: Iterable[Extent]) -> int:
    covered = any(e.inside <= number < e.inside + e.count for e in extents)
    return number if covered else OVERFLOW_ID


def single(uid: int, gid: int) -> IdMap:
    """The map without privileges: the caller is root inside and nobody else exists."""
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
    """Start and count of the ranges without what they have in common (one may be granted by name and by number).

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
    """The ranges of one user in /etc/subuid or /etc/subgid (subuid(5)); lines that are none are passed over."""
    ranges = []
    for line in text.splitlines():
        owner, _, numbers = line.strip().partition(":")
        start, _, count = numbers.partition(":")
        if owner in (user, str(uid)) and _is_id(start) and _is_id(count):
            ranges.append(Extent(0, int(start), int(count)))
    return tuple(ranges)


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10  # ids have 32 bits


def detect_full() -> IdMap:
    """The full map of the calling user. Raises SysenvError when there is none, with what to install."""
    uid, gid = os.getuid(), os.getgid()
    for program in ("newuidmap", "newgidmap"):
        if find_program(program) is None:
            raise SysenvError(f"no full id map: {program} is not installed", UIDMAP_HINT)
    ranges = []
    for path in ("/etc/subuid", "/etc/subgid"):
        found = parse_subordinate(_read(path), _user_name(uid), uid)
        if sum(extent.count for extent in found) < _NEEDED:
            what = "too few" if found else "no"
            raise SysenvError(f"no full id map: {path} grants you {what} subordinate ids", UIDMAP_HINT)
        ranges.append(found)
    return full(uid, gid, *ranges)


def find_program(name: str) -> str | None:
    """The absolute path of a program on PATH or in the system directories that users' PATHs often lack."""
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/sbin", "/bin", "/sbin"):
        path = f"{directory}/{name}"
        if directory.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


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


def _line(extents: Iterable[Extent]) -> str:
    return "\n".join(f"{e.inside} {e.outside} {e.count}" for e in extents)


def install_full(pid: int, id_map: IdMap) -> None:
    """Give the user namespace of process `pid` its full map; called from outside. Raises SysenvError."""
    for program, extents in (("newuidmap", id_map.uids), ("newgidmap", id_map.gids)):
        path = find_program(program)
        if path is None:
            raise SysenvError(f"{program} is not installed any more", UIDMAP_HINT)
        numbers = [str(n) for e in extents for n in (e.inside, e.outside, e.count)]
        complaint = children.complaint(path, [program, str(pid), *numbers], os.environ)
        if complaint is not None:
            raise SysenvError(f"{program} refused the id map: {complaint}", UIDMAP_HINT)
