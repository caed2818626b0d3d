"""PURE: changes of files and packages compared with the host, and how they are grouped; finds nothing."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Literal, NamedTuple

from sysenv_ns.packages import dpkg, versions
from sysenv_ns.packages.dpkg import Package
from sysenv_ns.records import dataclass

Kind = Literal["added", "modified", "deleted", "type", "metadata"]  # metadata: and nothing else
FileType = Literal["file", "directory", "symlink", "fifo", "socket", "device"]
Fold = Literal["", "cache", "log", "database"]  # database: one of a package manager
PackageKind = Literal["added", "upgraded", "downgraded", "removed"]

_TYPES: dict[int, FileType] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
# What it is by the name of the group that matches.
_FOLDS = re.compile(
    r"(?P<log>/var/log/.*)"
    r"|(?P<database>/var/lib/(dpkg|rpm|pacman|apk)/.*|/(usr/)?lib/(apk|sysimage)/.*|/var/lib/apt/(?!lists/)[^/]*"
    r"|/var/lib/sysenv-ns(/.*)?)"
    r"|(?P<cache>/var/cache/.*|/var/lib/apt/lists/.*|/etc/ld\.so\.cache|.*/__pycache__(/.*)?"
    r"|/usr/.*/(icon-theme\.cache|mimeinfo\.cache|mime\.cache|loaders\.cache|gschemas\.compiled))",
    re.DOTALL,
)
_FOLDED = ("/var/", "/usr/", "/lib/", "/etc/")  # what all but this one are in
_PYTHON_CACHE = "/__pycache__"
_FOLD_NAMES: tuple[Fold, ...] = ("log", "database", "cache")


class Facts(NamedTuple):
    """The properties of a file on one side; owners are those of the environment, where root is 0."""

    type: FileType
    mode: int  # its permission bits
    uid: int
    gid: int
    size: int = 0  # bytes of a regular file


class Change(NamedTuple):
    """What an environment changed at a path; that is absolute, with bytes that are not UTF-8 as surrogates."""

    path: str
    kind: Kind
    old: Facts | None  # on the host; None for nothing
    new: Facts | None  # in the environment; None for nothing
    metadata: tuple[str, ...] = ()  # which of mode, owner, attributes differ, where both sides have the same type
    package: str = ""  # whose file it is; "" for no package's
    fold: Fold = ""

    @property
    def type(self) -> FileType:
        """Its present type, or its last one."""
        facts = self.new or self.old
        assert facts is not None
        return facts.type


@dataclass(frozen=True)
class PackageChange:
    """A package with different versions in the environment and on the host; "" if not installed."""

    name: str
    kind: PackageKind
    old: str
    new: str


def facts_of(status: os.stat_result) -> Facts:
    """What stat(2) says."""
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), "device")
    # The mode of a symbolic link says nothing, and file systems give it different ones.
    mode = 0o777 if kind == "symlink" else stat.S_IMODE(status.st_mode)
    return Facts(kind, mode, status.st_uid, status.st_gid, status.st_size if kind == "file" else 0)


def compare(
    path: str,
    old: Facts | None,
    new: Facts | None,
    same_content: bool = True,
    same_attributes: bool = True,
    package: str = "",
) -> Change | None:
    """The change at a path of that package; None if there is none."""
    if old is None or new is None:
        kind: Kind = "deleted" if new is None else "added"
        return Change(path, kind, old, new, (), package, fold(path)) if old or new else None
    if old.type != new.type:
        return Change(path, "type", old, new, (), package, fold(path))
    differs = (old.mode != new.mode, (old.uid, old.gid) != (new.uid, new.gid), not same_attributes)
    names = zip(("mode", "owner", "attributes"), differs, strict=True)
    metadata = tuple(name for name, does in names if does)
    if same_content and not metadata:
        return None
    return Change(path, "metadata" if same_content else "modified", old, new, metadata, package, fold(path))


def details(change: Change) -> list[str]:
    """The differences apart from the content, in words."""
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
    """The group of a path that is only counted, not listed; "" for others."""
    if not (path.startswith(_FOLDED) or _PYTHON_CACHE in path):
        return ""  # as nearly always, and there can be 100,000s
    found = _FOLDS.fullmatch(path)
    return next((name for name in _FOLD_NAMES if found[name] is not None), "") if found else ""


def packages(
    old: Mapping[str, Package], host: Mapping[str, Package], own: Mapping[str, Package]
) -> tuple[tuple[PackageChange, ...], int]:
    """What the environment changed, and how many packages differ only because the host was upgraded.

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
    """The kind of change from one version to another; "" for not installed."""
    if not old or not new:
        return "removed" if old else "added"
    return "upgraded" if versions.is_older(old, new) else "downgraded"


def whose(path: str, stems: Mapping[str, str]) -> str:
    """The package of an info file of dpkg; `stems` are the beginnings of these files' names."""
    directory, _, name = path.rpartition("/")
    return stems.get(name.rpartition(".")[0], "") if directory == dpkg.INFO else ""
