"""Which ids of others a user may use (subuid(5)), and what to do if that is too few or refused; makes no map.

A start with a map that is written down needs nothing of this.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import processes

_NEEDED = 65535  # ids 0 to 65534: every system id of a distribution, and nobody

_FIRST, _LENGTH = 100000, 65536  # where the ranges begin, and how long each is: login.defs(5), as shadow has them
_PROGRAMS_HINT = "install newuidmap and newgidmap (package uidmap or shadow-utils)"
_CONFINED_HINT = (
    "no_new_privs is set here, as in many sandboxes, containers and services, and takes away the rights of newuidmap: "
    "start sysenv-ns outside of that, or create an environment with --id-map single"
)
_FEW_IDS_HINT = (
    "where this container was started it has to be given more ids (lxc.idmap of LXC, security.idmap.size of Incus); "
    "or create an environment with --id-map single"
)


class Range(NamedTuple):
    """The `length` ids from `first` on."""

    first: int
    length: int

    @property
    def end(self) -> int:
        """The id after the last one."""
        return self.first + self.length


class Kind(NamedTuple):
    """Users or groups: which file grants their ids, and which of them exist here at all."""

    grants: str
    here: str  # a container does not have all ids of the kernel
    option: str  # of usermod(8)


KINDS = (
    Kind("/etc/subuid", "/proc/self/uid_map", "--add-subuids"),
    Kind("/etc/subgid", "/proc/self/gid_map", "--add-subgids"),
)


def parse(text: str, user: str, uid: int) -> tuple[Range, ...]:
    """The ranges of one user in /etc/subuid or /etc/subgid (subuid(5)); invalid lines are ignored."""
    return tuple(piece for owner, piece in _granted_in(text) if owner in (user, str(uid)))


def _granted_in(text: str) -> Iterator[tuple[str, Range]]:
    """Whose the ranges are."""
    for line in text.splitlines():
        owner, _, numbers = line.strip().partition(":")
        first, _, count = numbers.partition(":")
        if _is_id(first) and _is_id(count):
            yield owner, Range(int(first), int(count))


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10  # ids have 32 bits


def granted(uid: int) -> tuple[tuple[Range, ...], ...]:
    """The ranges of users and of groups that exist here. Raises SysenvError if they are too few for a full map."""
    ranges = []
    for kind in KINDS:
        whole = _of_user(kind, uid)
        found = existing(whole, _read(kind.here))
        if _total(_joined(found)) < _NEEDED:
            whom = "you" if uid == os.getuid() else _user_name(uid)
            many = "too few" if whole else "no"
            where = " that exist in this container" if _total(whole) >= _NEEDED else ""
            problem = f"{kind.grants} grants {whom} {many} subordinate ids{where}"
            raise SysenvError(f"no full id map: {problem}", _unless_confined(_range_hint(uid)))
        ranges.append(found)
    return tuple(ranges)


def existing(ranges: Iterable[Range], id_map: str) -> tuple[Range, ...]:
    """What of these ranges exists in a user namespace with this /proc/PID/uid_map or gid_map (user_namespaces(7))."""
    lines = (line.split() for line in id_map.splitlines())
    return _common(ranges, sorted(Range(int(first), int(count)) for first, _, count in lines))


def _common(ranges: Iterable[Range], others: Collection[Range]) -> tuple[Range, ...]:
    pairs = [(max(a.first, b.first), min(a.end, b.end)) for a in ranges for b in others]
    return tuple(Range(first, end - first) for first, end in pairs if first < end)


def free(texts: Iterable[str]) -> Range:
    """The first range that none of these texts of subuid(5) grants to anybody."""
    first = _FIRST
    for piece in sorted(piece for text in texts for _, piece in _granted_in(text)):
        if piece.first < first + _LENGTH and piece.end > first:
            first = piece.end
    return Range(first, _LENGTH)


def missing_hint() -> str:
    """What the calling user can do without newuidmap or newgidmap."""
    try:
        granted(os.getuid())
    except SysenvError as error:
        return _unless_confined(f"{_PROGRAMS_HINT} and {error.hint}")
    return _unless_confined(_PROGRAMS_HINT)


def refusal_hint(program: str, needed: Iterable[Iterable[Range]]) -> str:
    """What the calling user can do if newuidmap or newgidmap, at this path, refuses ranges of users and groups."""
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        hint = f"{program} has no effect, as its file system is mounted nosuid here: start sysenv-ns where it is not"
    elif not os.stat(program).st_mode & stat.S_ISUID and "security.capability" not in os.listxattr(program):
        again = "install it again (package uidmap or shadow-utils)"
        hint = f"{program} has lost its setuid bit: {again}, or sudo chmod u+s {program}"
    elif os.getgid() != _usual_group():
        hint = f"{program} serves you only with your usual group: start sysenv-ns outside of newgrp(1) and sg(1)"
    else:
        hint = _lost_hint([*zip(KINDS, needed, strict=True)])
    return _unless_confined(hint or "the ids are granted to you: something else forbids it (see sudo dmesg)")


def _lost_hint(needed: Iterable[tuple[Kind, Iterable[Range]]]) -> str:
    """How a user gets ids again that environments were made with; "" if none has been lost."""
    uid, options = os.getuid(), []
    for kind, ranges in needed:
        ids = _joined(ranges)
        if _total(existing(ids, _read(kind.here))) < _total(ids):
            return _FEW_IDS_HINT
        own = _joined(_of_user(kind, uid))
        lost = [piece for piece in ids if _total(_common([piece], own)) < piece.length]
        for owner, piece in _granted_in(_read(kind.grants)):
            if _common(lost, [piece]) and owner not in (_user_name(uid), str(uid)):
                return f"{kind.grants} now grants {owner} the ids that this was made with: only root can delete it"
        options += [f"{kind.option} {piece.first}-{piece.end - 1}" for piece in lost]
    what = "the ids that this was made with are no longer granted to you; get them back"
    return f"{what}: sudo usermod {' '.join(options)} {_user_name(uid)}" if options else ""


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """The same ids in as few ranges as possible."""
    joined: list[Range] = []
    for piece in sorted(ranges):
        before = joined.pop() if joined and piece.first <= joined[-1].end else piece
        joined.append(Range(before.first, max(before.end, piece.end) - before.first))
    return joined


def _range_hint(uid: int) -> str:
    """How a user gets a range of ids of their own: who has those of somebody else owns that one's files."""
    new = free(_read(kind.grants) for kind in KINDS)
    if any(_total(existing([new], _read(kind.here))) < new.length for kind in KINDS):
        return _FEW_IDS_HINT
    options = " ".join(f"{kind.option} {new.first}-{new.end - 1}" for kind in KINDS)
    whom = "yourself" if uid == os.getuid() else _user_name(uid)
    return f"give {whom} a range: sudo usermod {options} {_user_name(uid)}"


def _unless_confined(hint: str) -> str:
    return _CONFINED_HINT if processes.no_new_privileges() else hint


def _total(ranges: Iterable[Range]) -> int:
    return sum(piece.length for piece in ranges)


def _of_user(kind: Kind, uid: int) -> tuple[Range, ...]:
    return parse(_read(kind.grants), _user_name(uid), uid)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:  # absent or unreadable: it grants nothing
        return ""


def _usual_group() -> int:
    try:
        return pwd.getpwuid(os.getuid()).pw_gid
    except KeyError:
        return os.getgid()


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
