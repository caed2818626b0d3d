"""Reads what an apply needs from an environment, within a namespace of its id map; changes nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sysenv_ns import policy
from sysenv_ns.apply import entries
from sysenv_ns.apply.entries import Entry
from sysenv_ns.diff import owners
from sysenv_ns.diff.changes import Change
from sysenv_ns.diff.difference import Sides
from sysenv_ns.files import reader
from sysenv_ns.files.upper import Own, Upper
from sysenv_ns.files.view import View
from sysenv_ns.host import accounts
from sysenv_ns.packages import dpkg

_ARCHIVES = "/var/cache/apt/archives"


class Seen(NamedTuple):
    """The file of an environment at a path."""

    entry: Entry | None
    changed: int  # when the environment did so, in nanoseconds
    inode: tuple[int, int] | None  # of a file with several names
    of_tool: bool  # all environments have something there in addition to the host
    stand_in: bool  # the host's own cannot be read, environments have something else instead
    whose: str = ""  # the package of the file that a symbolic link leads to


class Deb(NamedTuple):
    """A package file that the environment has."""

    file: str
    place: str
    size: int
    digest: str


@dataclass(frozen=True)
class Inventory:
    """Everything that is read."""

    seen: Mapping[str, Seen]  # by path; files of packages only where they are not as shipped
    passwd: bytes
    group: bytes
    status: bytes  # dpkg's
    automatic: bytes  # apt's extended states
    debs: Mapping[str, Deb]  # by package
    others: tuple[str, ...]  # databases of other package managers that it has changed

    @cached_property
    def packages(self) -> Mapping[str, dpkg.Package]:
        """By name."""
        return dpkg.parse_status(self.status)


def look(sides: Sides, changed: Sequence[Change], packages: Mapping[str, str], lacking: Iterable[str]) -> Inventory:
    """In the namespace. `packages`: versions by name of those that are changed; `lacking`: those of
    them that apt does not have.
    """
    upper = sides.upper()
    own = Own(upper, View("/"))
    here = owners.of_environment(upper, own)
    shipped = _shipped(here.packages if here else {}, packages, own)
    seen = {}
    for change in changed:
        if change.package not in packages or not _is_as_shipped(change, upper, shipped):
            seen[change.path] = _see(change, sides, upper)
    targets = {
        path: os.path.normpath(os.path.join(os.path.dirname(path), row.entry.target))
        for path, row in seen.items()
        if row.entry and row.entry.target
    }
    owner = owners.owners(targets.values(), [here] if here else [], owners.links())
    read = (own.read(path) or b"" for path in (*accounts.PATHS, dpkg.STATUS, dpkg.EXTENDED_STATES))
    passwd, group, status, automatic = read
    return Inventory(
        {path: row._replace(whose=owner.get(targets.get(path, ""), "")) for path, row in seen.items()},
        passwd,
        group,
        status,
        automatic,
        debs={name: deb for name in lacking if (deb := _deb(name, packages[name], upper))},
        others=tuple(path for path in policy.PACKAGE_DATABASES if path != dpkg.STATUS and upper.get(path) is not None),
    )


def send(sides: Sides, paths: Sequence[str], debs: Sequence[str], pipe: int) -> None:
    """In the namespace: write contents to a pipe, files by their paths, then packages. Raises OSError."""
    upper = sides.upper()
    for path in paths:
        entry = upper.get(path)
        if entry is not None:
            entries.send(entry, pipe)
    for place in debs:
        entries.send(upper.entries[f"{_ARCHIVES}/{os.path.basename(place)}"], pipe)


def _see(change: Change, sides: Sides, upper: Upper) -> Seen:
    """Everything except the package of a link's target."""
    path = change.path
    there = sides.host.look(path) if change.old else None
    own = upper.get(path)
    hidden = upper.covers(path)
    status = own.status if own else hidden[-1][1].status if hidden else None
    entry = entries.read_own(own) if own and change.new else None
    inode = (
        (status.st_dev, status.st_ino) if status and entry and entry.type == "file" and status.st_nlink > 1 else None
    )
    of_tool = sides.host.is_added(path)
    stand_in = there is not None and there.of_host and there.content is not None
    when = time_of(status, sides.environment.created) if status else 0
    return Seen(entry, when, inode, of_tool, stand_in)


def time_of(status: os.stat_result, created: float) -> int:
    """An upper bound for the time of a change in an environment created at that time, in nanoseconds.

    Merging layers, a sync or a hard link change inodes or their times, but not those of contents, which may be
    older than the environment, for files that were moved or unpacked there.
    """
    return min(status.st_ctime_ns, max(status.st_mtime_ns, int(created * 1e9)))


def _shipped(known: Mapping[str, dpkg.Package], names: Iterable[str], own: Own) -> dict[str, str]:
    """The shipped checksums of package files, by their real paths."""
    found: dict[str, str] = {}
    for package in filter(None, map(known.get, names)):
        found |= dpkg.parse_checksums(own.read(f"{dpkg.INFO}/{package.stem}.md5sums") or b"") | package.conffiles
    links = owners.links()
    return {_real(path, links): checksum for path, checksum in found.items()}


def _real(path: str, links: Mapping[str, str]) -> str:
    found = ((link, target) for link, target in links.items() if path.startswith(f"{link}/"))
    return next((f"{target}{path[len(link) :]}" for link, target in found), path)


def _is_as_shipped(change: Change, upper: Upper, shipped: Mapping[str, str]) -> bool:
    """Whether a file is as in its package; files without a known checksum count as such."""
    entry = upper.get(change.path)
    if entry is None or change.new is None or change.new.type != "file" or change.path not in shipped:
        return True
    return entry.checksum() == shipped[change.path]


def _deb(name: str, version: str, upper: Upper) -> Deb | None:
    """The environment's package file of that version."""
    plain = name.partition(":")[0]
    for file in upper.below(_ARCHIVES):
        if not (file.startswith(f"{plain}_") and file.endswith(".deb")):
            continue
        entry = upper.entries[f"{_ARCHIVES}/{file}"]
        with contextlib.suppress(OSError), entry.stream() as stream:  # it is no file, or gone
            descriptor = stream.fileno()
            said = _show(f"/proc/self/fd/{descriptor}", descriptor)
            if said == f"{plain} {version}".encode():
                size = os.fstat(descriptor).st_size
                return Deb(file, entry.place, size, entries.digest_of(reader.content(descriptor, size)))
    return None


def _show(place: str, descriptor: int) -> bytes:
    """The name and the version of an open package file."""
    form = ("/usr/bin/dpkg-deb", "--show", "--showformat=${Package} ${Version}", place)
    return subprocess.run(form, check=False, capture_output=True, pass_fds=[descriptor]).stdout
