"""PURE: what a change against the host is, of a file and of a package, and what it is folded into; finds nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, NamedTuple

from sysenv_ns.packages import dpkg
from sysenv_ns.packages.dpkg import Package

Kind = Literal["added", "modified", "deleted", "type", "metadata"]  # metadata: and nothing else
FileType = Literal["file", "directory", "symlink", "fifo", "socket", "device"]
Fold = Literal["", "cache", "log", "database"]  # database: one of a package manager
PackageKind = Literal["added", "upgraded", "downgraded", "removed"]

_FOLDS: tuple[tuple[Fold, str], ...] = (
    ("log", r"/var/log/.*"),
    ("database", r"/var/lib/(dpkg|rpm|pacman|apk)/.*|/(usr/)?lib/(apk|sysimage)/.*|/var/lib/apt/(?!lists/)[^/]*"),
    ("database", r"/var/lib/sysenv-ns(/.*)?"),
    ("cache", r"/var/cache/.*|/var/lib/apt/lists/.*|/etc/ld\.so\.cache|.*/__pycache__(/.*)?"),
    ("cache", r"/usr/.*/(icon-theme\.cache|mimeinfo\.cache|mime\.cache|loaders\.cache|gschemas\.compiled)"),
)
_Pair = tuple[tuple[int, ...], int]
_END: _Pair = ((0,), 0)
_VERSION_PARTS = re.compile(r"(\D*)(\d*)")


class Facts(NamedTuple):
    """What something at a path is on one side; owners are those of the environment, where root is 0."""

    type: FileType
    mode: int  # its permission bits
    uid: int
    gid: int
    size: int = 0  # bytes of a regular file


@dataclass(frozen=True)
class Change:
    """What an environment changed at a path, absolute, in which bytes that are no UTF-8 are surrogates."""

    path: str
    kind: Kind
    old: Facts | None  # on the host; None for nothing
    new: Facts | None  # in the environment; None for nothing
    metadata: tuple[str, ...] = ()  # which of mode, owner, attributes differ, where both sides have the same type
    package: str = ""  # whose file it is; "" for no package's
    fold: Fold = ""

    @property
    def type(self) -> FileType:
        """What it is now, or was."""
        facts = self.new or self.old
        assert facts is not None
        return facts.type


@dataclass(frozen=True)
class PackageChange:
    """A package that the environment has in another version than the host; "" for none."""

    name: str
    kind: PackageKind
    old: str
    new: str


def compare(
    path: str, old: Facts | None, new: Facts | None, same_content: bool = True, same_attributes: bool = True
) -> Change | None:
    """The change at a path; None when there is none."""
    if old is None or new is None:
        kind: Kind = "deleted" if new is None else "added"
        return Change(path, kind, old, new) if old or new else None
    if old.type != new.type:
        return Change(path, "type", old, new)
    differs = (old.mode != new.mode, (old.uid, old.gid) != (new.uid, new.gid), not same_attributes)
    names = zip(("mode", "owner", "attributes"), differs, strict=True)
    metadata = tuple(name for name, does in names if does)
    if same_content and not metadata:
        return None
    return Change(path, "metadata" if same_content else "modified", old, new, metadata)


def details(change: Change) -> list[str]:
    """What is different beside the content, in words."""
    old, new = change.old, change.new
    if old is None or new is None:
        return []
    words = {
        "mode": f"mode {old.mode:04o} -> {new.mode:04o}",
        "owner": f"owner {old.uid}:{old.gid} -> {new.uid}:{new.gid}",
        "attributes": "other attributes",
    }
    types = [f"{old.type} -> {new.type}"] if old.type != new.type else []
    return types + [words[name] for name in change.metadata]


def fold(path: str) -> Fold:
    """What a path belongs to that nobody wants to see in full."""
    return next((name for name, pattern in _FOLDS if re.fullmatch(pattern, path, re.DOTALL)), "")


def packages(
    old: Mapping[str, Package], host: Mapping[str, Package], own: Mapping[str, Package]
) -> tuple[tuple[PackageChange, ...], int]:
    """What the environment changed, and how many packages differ only because the host has moved on.

    `old` are those of the host when the environment began to have a database of its own.
    """
    found = []
    drifted = 0
    for name in sorted({*host, *own}):
        before, now, here = (dpkg.version_of(side.get(name)) for side in (old, host, own))
        if here == now:
            continue
        if here == before:
            drifted += 1
        else:
            found.append(PackageChange(name, package_kind(now, here), now, here))
    return tuple(found), drifted


def package_kind(old: str, new: str) -> PackageKind:
    """What it is to go from one version to another; "" for none."""
    if not old or not new:
        return "removed" if old else "added"
    return "upgraded" if is_older(old, new) else "downgraded"


def is_older(one: str, other: str) -> bool:
    """Whether one version comes before the other, deb-version(7): by epoch, upstream version, revision."""
    (epoch, *parts), (other_epoch, *other_parts) = _split(one), _split(other)
    pairs: list[tuple[_Pair, _Pair]] = [(((), int(epoch)), ((), int(other_epoch)))]
    for part, other_part in zip(parts, other_parts, strict=True):
        pairs += zip_longest(_pairs(part), _pairs(other_part), fillvalue=_END)
    return next((first < second for first, second in pairs if first != second), False)


def _split(version: str) -> tuple[str, str, str]:
    epoch, _, rest = version.rpartition(":")
    upstream, dash, revision = rest.rpartition("-")
    return epoch if epoch.isdecimal() else "0", upstream if dash else rest, revision if dash else ""


def _pairs(text: str) -> list[_Pair]:
    """What is no number, and the number behind it: letters before all others, ~ before even the end."""
    found = (match.groups() for match in _VERSION_PARTS.finditer(text))
    return [((*map(_order, letters), 0), int(digits or 0)) for letters, digits in found]


def _order(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isascii() and letter.isalpha() else ord(letter) + 256


def whose(path: str, stems: Mapping[str, str]) -> str:
    """The package that an info file of dpkg is about; `stems` are what these files' names begin with."""
    directory, _, name = path.rpartition("/")
    return stems.get(name.rpartition(".")[0], "") if directory == dpkg.INFO else ""
