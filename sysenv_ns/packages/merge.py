"""PURE: three-way merges of package databases and line-keyed files; knows nothing of files and namespaces.

Always of three: what the host was when the environment was made or last rebased ("old"), what it is now ("new"), and
what the environment has made of the old ("own").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Literal, TypeVar

from sysenv_ns import documents
from sysenv_ns.packages.dpkg import Alternatives, Diversion, Package
from sysenv_ns.records import dataclass

Side = Literal["host", "own"]

_T = TypeVar("_T")


def pick(old: _T, new: _T, own: _T) -> _T:
    """The changed one of two; the environment's where both have changed."""
    return new if own == old else own


def mapping(old: Mapping[str, _T], new: Mapping[str, _T], own: Mapping[str, _T]) -> dict[str, _T]:
    """Three-way by key: in the host's order, with what the environment alone has behind it."""
    found = {}
    for key in dict.fromkeys([*new, *own]):
        value = pick(old.get(key), new.get(key), own.get(key))
        if value is not None:
            found[key] = value
    return found


def lines(old: bytes, new: bytes, own: bytes, key: Callable[[bytes], bytes] = lambda line: line) -> bytes:
    """Three-way by line, each known by its key, by default all of it."""
    keyed = [{key(line).decode("latin-1"): line for line in data.splitlines()} for data in (old, new, own)]
    return b"".join(line + b"\n" for line in mapping(*keyed).values())


@dataclass(frozen=True)
class Decision:
    """From which side a package comes; `package` is its entry afterwards, None for one that is not there."""

    key: str
    side: Side
    package: Package | None
    why: str
    old: str = ""  # the versions
    new: str = ""
    own: str = ""


def _same(one: Package | None, other: Package | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.version == other.version and one.status == other.status


def decide(
    key: str, old: Package | None, new: Package | None, own: Package | None, unpacked: AbstractSet[str]
) -> Decision:
    """What becomes of one package. `unpacked`: the stems of those that the environment's dpkg has unpacked itself."""
    if new is not None and own is not None and old is not None and old.paragraph == new.paragraph == own.paragraph:
        return Decision(key, "host", new, "same", new.version, new.version, new.version)  # as nearly all are
    if own is not None and own.stem not in unpacked and _same(own, new):
        own = old  # it follows the host
    side, package, why = _as_of_host(old, new) if _same(own, old) else _decide(old, new, own, unpacked)
    versions = (package.version if package else "" for package in (old, new, own))
    return Decision(key, side, package, why, *versions)


_Choice = tuple[Side, Package | None, str]


def _as_of_host(old: Package | None, new: Package | None) -> _Choice:
    """The environment has left the package alone."""
    if _same(old, new):
        return "host", new, "same"
    return "host", new, "added" if old is None else "removed" if new is None else "updated"


def _decide(old: Package | None, new: Package | None, own: Package | None, unpacked: AbstractSet[str]) -> _Choice:
    """The environment has its own idea of the package."""
    if own is None:
        return ("own", None, "removed here") if new else ("host", None, "same")
    if not own.has_files:
        return "own", own, "removed here"
    if new is not None and own.version == new.version and own.sound and new.sound:
        return "host", new.wanted(own.status[0]), "same version"
    if old is None:
        return "own", own, "added here"
    if not _of_the_host(old, own, unpacked):
        return "own", own, "changed here"
    return ("host", new.wanted(own.status[0]), f"updated, {own.status[0]}") if new else ("host", None, "removed")


def _of_the_host(old: Package, own: Package, unpacked: AbstractSet[str]) -> bool:
    """Whether only the selection or the state differs: the files are the host's, whatever version these have by now."""
    return own.stem not in unpacked or (own.version == old.version and own.sound)


def packages(
    old: Mapping[str, Package], new: Mapping[str, Package], own: Mapping[str, Package], unpacked: AbstractSet[str]
) -> dict[str, Decision]:
    """What becomes of every package, by key; in the order of the host's status file."""
    keys = dict.fromkeys([*new, *own, *old])
    return {key: decide(key, old.get(key), new.get(key), own.get(key), unpacked) for key in keys}


def diversions(
    old: Mapping[str, Diversion],
    new: Mapping[str, Diversion],
    own: Mapping[str, Diversion],
    side: Callable[[str], Side],
) -> dict[str, Diversion]:
    """A package's are those of the side that it comes from; an administrator's are merged."""
    local = mapping(*({p: d for p, d in side_.items() if d.local} for side_ in (old, new, own)))
    found = {p: d for p, d in new.items() if not d.local and side(d.owner) == "host"}
    found |= {p: d for p, d in own.items() if not d.local and side(d.owner) == "own"}
    return found | local


def alternatives(old: Alternatives | None, new: Alternatives | None, own: Alternatives) -> Alternatives:
    """The host's choices now, but those that the environment has taken away, and the environment's own.

    Those of a package that went are kept here: update-alternatives drops what points nowhere.
    """
    gone = old.choices.keys() - own.choices.keys() if old else frozenset[str]()
    choices = {path: choice for path, choice in (new.choices if new else {}).items() if path not in gone}
    for path, choice in own.choices.items():
        if path not in choices or not (old and old.choices.get(path) == choice):
            choices[path] = choice
    slaves = {**own.slaves, **(new.slaves if new else {})}
    status = own.status if old is None or new is None else pick(old.status, new.status, own.status)
    return Alternatives(status, new.link if new else own.link, slaves, choices)


def name_of(line: bytes) -> bytes:
    """The key of a line in passwd, group, shadow and gshadow."""
    return line.partition(b":")[0]


def group_line(old: bytes, new: bytes, own: bytes) -> bytes:
    """One entry of group or gshadow that both sides changed: the members of both, otherwise the environment's."""
    olds, news, owns = (line.rpartition(b":")[2].split(b",") if line else [] for line in (old, new, own))
    members = [m for m in news if m in owns or m not in olds] + [m for m in owns if m not in news and m not in olds]
    return own.rpartition(b":")[0] + b":" + b",".join(m for m in members if m)


def groups(old: bytes, new: bytes, own: bytes) -> bytes:
    """Three-way merge of group or gshadow."""
    olds, news, owns = ({name_of(line): line for line in data.splitlines()} for data in (old, new, own))
    both = {n for n in owns if n in news and owns[n] != olds.get(n) != news[n] != owns[n]}
    merged = lines(old, new, own, name_of).splitlines()
    parts = (
        group_line(olds.get(n, b""), news[n], owns[n]) if (n := name_of(line)) in both else line for line in merged
    )
    return b"".join(line + b"\n" for line in parts)


@dataclass(frozen=True)
class Moved:
    """A name of the host whose id the environment had given away already."""

    name: str
    old: int
    new: int


def resolve_ids(merged: bytes, own: bytes, taken: Iterable[int]) -> tuple[bytes, tuple[Moved, ...]]:
    """Entries of passwd or group with another id where two names share one that the environment gave to its own.

    Its own files have that owner, so its name keeps it; the host's gets the next free system id, counted down from 999,
    and shares it where there is none.
    """
    owners = {_id(line): name_of(line) for line in reversed(own.splitlines()) if _id(line) is not None}
    known = {name_of(line) for line in own.splitlines()}
    used = {number for line in merged.splitlines() if (number := _id(line)) is not None} | set(taken)
    moved, result = [], []
    for line in merged.splitlines():
        number, name = _id(line), name_of(line)
        is_clash = name not in known and number in owners
        free = next((n for n in range(999, 0, -1) if n not in used), None) if is_clash else None
        if number is not None and free is not None:
            used.add(free)
            moved.append(Moved(name.decode("utf-8", "surrogateescape"), number, free))
            fields = line.split(b":")
            fields[2] = str(free).encode()
            line = b":".join(fields)  # noqa: PLW2901
        result.append(line)
    return b"".join(line + b"\n" for line in result), tuple(moved)


def elsewhere(host: bytes, here: bytes) -> tuple[Moved, ...]:
    """The names of passwd or group of the host that have another number in that of an environment."""
    numbers = _numbers(here)
    return tuple(
        Moved(name.decode("utf-8", "surrogateescape"), old, numbers[name])
        for name, old in _numbers(host).items()
        if numbers.get(name, old) != old
    )


def clashes(old: bytes, new: bytes, own: bytes) -> tuple[Moved, ...]:
    """Those of them that both sides have given to something of their own."""
    before = {name_of(line).decode("utf-8", "surrogateescape") for line in old.splitlines()}
    return tuple(moved for moved in elsewhere(new, own) if moved.name not in before)


def _numbers(data: bytes) -> dict[bytes, int]:
    """By name; the first entry counts."""
    lines = reversed(data.splitlines())
    return {name_of(line): number for line in lines if (number := _id(line)) is not None}


def renumber_groups(passwd: bytes, own: bytes, moved: Iterable[Moved]) -> bytes:
    """Entries of passwd whose primary group has another number now; those of the environment keep theirs."""
    numbers = {str(group.old).encode(): str(group.new).encode() for group in moved}
    known = {name_of(line) for line in own.splitlines()}
    result = []
    for line in passwd.splitlines():
        fields = line.split(b":")
        if len(fields) > 3 and fields[0] not in known:
            fields[3] = numbers.get(fields[3], fields[3])
        result.append(b":".join(fields) + b"\n")
    return b"".join(result)


def _id(line: bytes) -> int | None:
    fields = line.split(b":")
    return documents.decimal(fields[2].decode("latin-1")) if len(fields) > 3 else None
