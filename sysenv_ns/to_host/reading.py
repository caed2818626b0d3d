"""Reads of an environment what an apply needs, from within a namespace of its id map; changes nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sysenv_ns import policy
from sysenv_ns.diff import owning
from sysenv_ns.diff.changes import Change
from sysenv_ns.diff.difference import Sides
from sysenv_ns.packages import dpkg
from sysenv_ns.to_host import accounts, entries
from sysenv_ns.to_host.entries import Entry
from sysenv_ns.upper.view import Own, Upper, View

_ARCHIVES = "/var/cache/apt/archives"


class Seen(NamedTuple):
    """What an environment has at a path."""

    entry: Entry | None
    changed: int  # when the environment did so, in nanoseconds
    inode: tuple[int, int] | None  # of a file with several names
    of_tool: bool  # all environments have something there in addition to the host
    stand_in: bool  # the host's own cannot be read, environments have something else instead
    whose: str  # the package of the file that a symbolic link leads to


class Deb(NamedTuple):
    """A package file that the environment has."""

    file: str
    place: str
    size: int
    digest: str


@dataclass(frozen=True)
class Found:
    """All that is read."""

    seen: Mapping[str, Seen]  # by path; files of packages only where they are not as shipped
    accounts: tuple[bytes, bytes]
    packages: Mapping[str, dpkg.Package]
    automatic: bytes  # apt's extended states
    debs: Mapping[str, Deb]  # by package
    others: tuple[str, ...]  # databases of other package managers that it has changed


def look(
    sides: Sides, changed: Sequence[Change], packages: Mapping[str, str], lacking: Iterable[str]
) -> dict[str, Any]:
    """In the namespace, as JSON takes it. `packages`: versions by name of those that are changed; `lacking`: those of
    them that apt does not have.
    """
    upper = sides.upper()
    own = Own(upper, View("/"))
    here = owning.of_environment(upper, own)
    shipped = _shipped(here.packages if here else {}, packages, own)
    seen = {}
    for change in changed:
        if change.package not in packages or not _is_as_shipped(change, upper, shipped):
            seen[change.path] = _see(change, sides, upper)
    targets = {
        path: os.path.normpath(os.path.join(os.path.dirname(path), row[0]["target"]))
        for path, row in seen.items()
        if row[0] and row[0]["target"]
    }
    owners = owning.owners(targets.values(), [here] if here else [], owning.links())
    read = [own.read(path) for path in (*accounts.PATHS, dpkg.STATUS, dpkg.EXTENDED_STATES)]
    return {
        "seen": {path: [*row, owners.get(targets.get(path, ""), "")] for path, row in seen.items()},
        "read": [(data or b"").decode("utf-8", "surrogateescape") for data in read],
        "others": [path for path in policy.PACKAGE_DATABASES if path != dpkg.STATUS and upper.get(path) is not None],
        "debs": {name: deb for name in lacking if (deb := _deb(name, packages[name], upper))},
    }


def found(data: dict[str, Any]) -> Found:
    """What look has made, as JSON gives it back."""
    seen = {
        path: Seen(entries.from_data(entry), changed, tuple(inode) if inode else None, *rest)
        for path, (entry, changed, inode, *rest) in data["seen"].items()
    }
    passwd, group, status, states = (text.encode("utf-8", "surrogateescape") for text in data["read"])
    debs = {name: Deb(*row) for name, row in data["debs"].items()}
    return Found(seen, (passwd, group), dpkg.parse_status(status), states, debs, tuple(data["others"]))


def send(sides: Sides, paths: Sequence[str], debs: Sequence[str], pipe: int) -> None:
    """In the namespace: write contents to a pipe, files by their paths, then packages. Raises OSError."""
    upper = sides.upper()
    for path in paths:
        entry = upper.get(path)
        if entry is not None:
            entries.send(entry.place, pipe)
    for place in debs:
        entries.send(place, pipe)


def _see(change: Change, sides: Sides, upper: Upper) -> list[Any]:
    """A row for Seen without its last."""
    path = change.path
    there = sides.host.look(path) if change.old else None
    own = upper.get(path)
    hidden = upper.covers(path)
    status = own.status if own else hidden[-1][1].status if hidden else None
    entry = entries.read_path(own.place) if own and change.new else None
    inode = (
        [status.st_dev, status.st_ino] if status and entry and entry.type == "file" and status.st_nlink > 1 else None
    )
    of_tool = sides.host.is_added(path)
    stand_in = there is not None and there.of_host and there.content is not None
    when = time_of(status, sides.environment.created) if status else 0
    return [entries.as_data(entry), when, inode, of_tool, stand_in]


def time_of(status: os.stat_result, created: float) -> int:
    """When something was changed in an environment of that age, in nanoseconds: no later than that.

    Merged layers, a sync or a further name make inodes or their times new, but leave those of contents; these may be
    older than the environment, of what was moved or unpacked there.
    """
    return min(status.st_ctime_ns, max(status.st_mtime_ns, int(created * 1e9)))


def _shipped(known: Mapping[str, dpkg.Package], names: Iterable[str], own: Own) -> dict[str, str]:
    """The checksums with which files of packages were shipped, by their real paths."""
    found: dict[str, str] = {}
    for package in filter(None, map(known.get, names)):
        found |= dpkg.parse_checksums(own.read(f"{dpkg.INFO}/{package.stem}.md5sums") or b"") | package.conffiles
    links = owning.links()
    return {_real(path, links): checksum for path, checksum in found.items()}


def _real(path: str, links: Mapping[str, str]) -> str:
    found = ((link, target) for link, target in links.items() if path.startswith(f"{link}/"))
    return next((f"{target}{path[len(link) :]}" for link, target in found), path)


def _is_as_shipped(change: Change, upper: Upper, shipped: Mapping[str, str]) -> bool:
    """Whether a package's file comes with the package: what nobody knows a checksum of, does."""
    entry = upper.get(change.path)
    if entry is None or change.new is None or change.new.type != "file" or change.path not in shipped:
        return True
    found = hashlib.md5(usedforsecurity=False)
    with open(entry.place, "rb") as stream:
        while data := stream.read(entries.CHUNK):
            found.update(data)
    return found.hexdigest() == shipped[change.path]


def _deb(name: str, version: str, upper: Upper) -> Deb | None:
    """The environment's package file of that version."""
    for file in _archives(name.partition(":")[0], upper):
        place = upper.entries[f"{_ARCHIVES}/{file}"].place
        form = ("/usr/bin/dpkg-deb", "--show", "--showformat=${Package} ${Version}", place)
        result = subprocess.run(form, check=False, capture_output=True, text=True)
        if result.stdout == f"{name.partition(':')[0]} {version}":
            with open(place, "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                return Deb(file, place, size, entries.digest_of(entries.chunks(stream.fileno(), size)))
    return None


def _archives(name: str, upper: Upper) -> Iterator[str]:
    yield from (file for file in upper.below(_ARCHIVES) if file.startswith(f"{name}_") and file.endswith(".deb"))
