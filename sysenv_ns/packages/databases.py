"""Reads the databases of the three sides of a rebase and merges them into new contents; writes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Protocol

from sysenv_ns.files.upper import Own
from sysenv_ns.files.view import View
from sysenv_ns.packages import debconf, dpkg, merge
from sysenv_ns.packages.dpkg import Diversion
from sysenv_ns.packages.merge import Decision, Moved, Side
from sysenv_ns.packages.old import Old
from sysenv_ns.records import dataclass

_TRIGGERS = ".triggers"  # the end of the names of these info files
_OWNED = ("/etc", "/var", "/opt", "/srv")  # where files of system users are


def decisions(old: Old, new: View, own: Own, unpacked: frozenset[str]) -> dict[str, Decision]:
    """What becomes of every package."""
    olds, news, owns = (dpkg.parse_status(side.read(dpkg.STATUS) or b"") for side in (old, new, own))
    return merge.packages(olds, news, owns, unpacked)


def unsound(new: View, own: Own) -> list[str]:
    """The names of packages about whose state dpkg complains already, as it gives them."""
    sides = (dpkg.parse_status(side.read(dpkg.STATUS) or b"") for side in (new, own))
    found = {p for side in sides for p in side.values() if not p.sound}
    return sorted({name for p in found for name in (p.name, p.key, f"{p.name}:{p.field('Architecture')}")})


class Merged:
    """The databases of dpkg, apt and debconf afterwards."""

    def __init__(self, old: Old, new: View, own: Own, decided: Mapping[str, Decision]) -> None:
        self._sides = (old, new, own)
        self._new, self._own = new, own
        self._decisions = decided

    @cached_property
    def diversions(self) -> dict[str, Diversion]:
        """By path."""
        olds, news, owns = (dpkg.parse_diversions(data) for data in self._read(dpkg.DIVERSIONS))
        return merge.diversions(olds, news, owns, self._side)

    def _side(self, package: str) -> Side:
        decision = self._by_name.get(package)
        return decision.side if decision else "own"

    @cached_property
    def _by_name(self) -> dict[str, Decision]:
        """By the packages' names alone; of several architectures the one that the environment decides about."""
        found = sorted(self._decisions.values(), key=lambda d: (d.side == "own", d.package is not None))
        return {d.key.partition(":")[0]: d for d in found}

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Each file with its content; what neither side has is left out."""
        yield from self._merged(dpkg.STATUS, self._status, dpkg.parse_status)
        yield from self._merged(dpkg.DIVERSIONS, self._diversions, dpkg.parse_diversions)
        yield from self._merged(dpkg.ARCH, lambda: merge.lines(*self._read(dpkg.ARCH)), _lines)
        yield from self._merged(dpkg.STATOVERRIDE, self._overrides, _lines)
        yield from self._merged(dpkg.EXTENDED_STATES, self._states, dpkg.parse_states)
        yield from self._trigger_files()
        yield from self._answers()

    def _read(self, path: str) -> tuple[bytes, bytes, bytes]:
        old, new, own = (side.read(path) or b"" for side in self._sides)
        return old, new, own

    def _merged(
        self, path: str, content: Callable[[], bytes], entries: Callable[[bytes], object]
    ) -> Iterator[tuple[str, bytes]]:
        old, new, own = self._read(path)
        if self._new.read(path) is None and self._own.read(path) is None:
            return
        yield path, new if own in (old, new) else _in_known_order(content(), (new, own), entries)

    def _status(self) -> bytes:
        return dpkg.join(d.package.paragraph for d in self._decisions.values() if d.package)

    def _diversions(self) -> bytes:
        return dpkg.format_diversions(self.diversions.values())

    def _overrides(self) -> bytes:
        return merge.lines(*self._read(dpkg.STATOVERRIDE), lambda line: line.split(b" ", 3)[-1])

    def _states(self) -> bytes:
        return dpkg.join(merge.mapping(*map(dpkg.parse_states, self._read(dpkg.EXTENDED_STATES))).values())

    def _trigger_files(self) -> Iterator[tuple[str, bytes]]:
        if self._own.leaves_alone(dpkg.TRIGGERS) and all(d.side == "host" for d in self._decisions.values()):
            return  # all of them are the host's
        interests = {}
        of_host = {name for name in self._new.names(dpkg.INFO) if name.endswith(_TRIGGERS)}
        for decision in self._decisions.values():
            if decision.package is not None and decision.package.has_files:
                name = f"{decision.package.stem}{_TRIGGERS}"
                if decision.side == "own":  # what lies below an environment's own version is the host's
                    text = self._own.read_above(f"{dpkg.INFO}/{name}")
                else:  # few of the packages have one
                    text = self._new.read(f"{dpkg.INFO}/{name}") if name in of_host else None
                if text:
                    interests[decision.package.stem] = os.fsdecode(text)
        for name, content in dpkg.trigger_files(interests).items():
            path = f"{dpkg.TRIGGERS}/{name}"
            _, new, own = self._read(path)
            if content or self._own.read(path) is not None:
                yield path, _in_known_order(content, (new, own), _lines)

    def _answers(self) -> Iterator[tuple[str, bytes]]:
        for path in debconf.QUESTIONS:
            yield from self._merged(path, partial(self._questions, path), debconf.parse)
        yield from self._merged(debconf.TEMPLATES, self._templates, debconf.parse)

    def _questions(self, path: str) -> bytes:
        return debconf.written(self._entries(path, self._asks))

    def _templates(self) -> bytes:
        asked = {name for path in debconf.QUESTIONS for name in self._entries(path, self._asks)}
        return debconf.written(self._entries(debconf.TEMPLATES, lambda question, old, new, own: question in asked))

    def _entries(self, path: str, owns: debconf.Owns) -> dict[str, debconf.Question]:
        old, new, own = map(debconf.parse, self._read(path))
        return debconf.merged(old, new, own, owns)

    def _asks(self, package: str, old: bool, new: bool, own: bool) -> bool:
        """Whether a package owns a question, by who says so."""
        decision = self._by_name.get(package)
        if decision is None:  # not there, or none: answered beforehand
            return merge.pick(old, new, own)
        if decision.side == "own":
            return own
        return decision.package is not None and merge.pick(old, new, own)


def _in_known_order(content: bytes, sides: Iterable[bytes], entries: Callable[[bytes], object]) -> bytes:
    """What one of the sides has already, if only the order of its entries is another: that says nothing."""
    found = entries(content)
    return next((side for side in sides if entries(side) == found), content)


def _lines(data: bytes) -> list[bytes]:
    return sorted(data.splitlines())


@dataclass(frozen=True)
class MergedAccounts:
    """The account files afterwards, whose number on the host is another one here, and what to tell of new ones."""

    contents: Mapping[str, bytes]
    users: tuple[Moved, ...]
    groups: tuple[Moved, ...]
    notes: tuple[str, ...]


class AccountFiles(Protocol):
    """A host or an environment, as it is or was."""

    def read(self, path: str) -> bytes | None:
        """The content of a file; None when there is none."""


def accounts(old: AccountFiles, new: AccountFiles, own: AccountFiles) -> MergedAccounts:
    """Merge the account files. The environment's numbers stay: its files have these owners."""

    def read(name: str) -> tuple[bytes, bytes, bytes]:
        path = f"/etc/{name}"
        return old.read(path) or b"", new.read(path) or b"", own.read(path) or b""

    contents = {f"/etc/{name}": merge.lines(*read(name)) for name in ("subuid", "subgid")}
    contents["/etc/shadow"] = merge.lines(*read("shadow"), merge.name_of)
    contents["/etc/gshadow"] = merge.groups(*read("gshadow"))
    group, groups = merge.resolve_ids(merge.groups(*read("group")), read("group")[2], ())
    passwd = merge.renumber_groups(merge.lines(*read("passwd"), merge.name_of), read("passwd")[2], groups)
    passwd, users = merge.resolve_ids(passwd, read("passwd")[2], (moved.new for moved in groups))
    notes = [
        *_notes("user", users, merge.clashes(*read("passwd"))),
        *_notes("group", groups, merge.clashes(*read("group"))),
    ]
    contents |= {"/etc/group": group, "/etc/passwd": passwd}
    contents = {
        path: _in_known_order(data, (new.read(path) or b"", own.read(path) or b""), _lines)
        for path, data in contents.items()
    }
    users, groups = (merge.elsewhere(read(name)[1], contents[f"/etc/{name}"]) for name in ("passwd", "group"))
    return MergedAccounts(contents, users, groups, tuple(notes))


def _notes(kind: str, moved: Iterable[Moved], clashes: Iterable[Moved]) -> Iterator[str]:
    for one in moved:
        yield f"the host's {kind} {one.name} gets the number {one.new} here, as {one.old} is taken by another one"
    for one in clashes:
        yield f"the host has a {kind} {one.name} too now, with the number {one.old}; here it stays {one.new}"


def ownership(new: View, merged: MergedAccounts) -> dict[str, tuple[int, int]]:
    """The files of the host's users and groups that have another number here, with their owners then."""
    if not (merged.users or merged.groups):
        return {}
    uids, gids = ({moved.old: moved.new for moved in found} for found in (merged.users, merged.groups))
    owned = {}
    for path in _walk(new, _OWNED):
        status = new.status(path)
        if status is not None and (status.st_uid in uids or status.st_gid in gids):
            owned[path] = (uids.get(status.st_uid, status.st_uid), gids.get(status.st_gid, status.st_gid))
    return owned


def _walk(tree: View, directories: Iterable[str]) -> Iterator[str]:
    for top in directories:
        for directory, names, files in os.walk(tree.place(top)):
            below = directory[len(tree.place(top)) :]
            yield from (f"{top}{below}/{name}" for name in (*names, *files))
