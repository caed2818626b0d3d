"""Tells which package owns a path, by dpkg's lists, and what an environment's packages are; only reads.

The environment's own lists come first. The host's, which are many, are read only for what these do not name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sysenv_ns.diff import changes
from sysenv_ns.packages import dpkg
from sysenv_ns.packages.dpkg import Diversion, Package
from sysenv_ns.upper.view import Own, Upper

_LIST = ".list"


@dataclass(frozen=True)
class Lists:
    """What packages there are on one side, and where their lists are, by stem."""

    packages: Mapping[str, Package]
    diversions: Mapping[str, Diversion]
    places: Mapping[str, str]

    @property
    def keys(self) -> dict[str, str]:
        """The names of the packages by their stems."""
        return {package.stem: key for key, package in self.packages.items()}


def of_host(read_status: bytes | None) -> Lists:
    """The host's side."""
    found = (name for name in _names(dpkg.INFO) if name.endswith(_LIST))
    places = {name.removesuffix(_LIST): f"{dpkg.INFO}/{name}" for name in found}
    return Lists(dpkg.parse_status(read_status or b""), _diversions(_read(dpkg.DIVERSIONS)), places)


def of_environment(upper: Upper, own: Own) -> Lists | None:
    """The environment's side, with those lists alone that it has itself; None when its packages are the host's."""
    entry = upper.get(dpkg.STATUS)
    if entry is None:
        return None
    names = (name for name in upper.below(dpkg.INFO) if name.endswith(_LIST))
    entries = {name.removesuffix(_LIST): upper.entries[f"{dpkg.INFO}/{name}"] for name in names}
    places = {stem: entry.place for stem, entry in entries.items() if entry.kind == "file"}
    return Lists(dpkg.parse_status(own.read(dpkg.STATUS) or b""), _diversions(own.read(dpkg.DIVERSIONS)), places)


def _diversions(data: bytes | None) -> dict[str, Diversion]:
    return dpkg.parse_diversions(data or b"")


def owners(paths: Iterable[str], sides: Sequence[Lists], links: Mapping[str, str]) -> dict[str, str]:
    """The package of each path that has one. `links` are the directories that go by another name in the lists, too:
    /bin for /usr/bin.
    """
    found: dict[str, str] = {}
    stems: dict[str, str] = {}
    for side in reversed(sides):
        stems |= side.keys
    left = set(paths)
    for path in list(left):
        if name := changes.whose(path, stems):
            found[path] = name
            left.discard(path)
    for side in sides:
        if left:
            for path, stem in _owned(left, side, links):
                found.setdefault(path, stems.get(stem, stem))
            left -= found.keys()
    return found


def _owned(paths: set[str], side: Lists, links: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The paths that a list names, with its stem."""
    named = {path: path for path in paths} | {alias: path for path in paths for alias in _aliases(path, links)}
    wanted = {os.fsencode(path) for path in (*named, *side.diversions)}
    for stem, place in sorted(side.places.items()):
        for line in wanted.intersection((_read(place) or b"").split(b"\n")):
            path = os.fsdecode(line)
            truly = dpkg.diverted(path, stem.partition(":")[0], side.diversions)
            if truly in named:
                yield named[truly], stem


def _aliases(path: str, links: Mapping[str, str]) -> Iterator[str]:
    for link, directory in links.items():
        if path.startswith(f"{directory}/"):
            yield f"{link}{path[len(directory) :]}"


def links() -> dict[str, str]:
    """The directories in / that are symbolic links, with what they stand for."""
    found = {}
    for entry in os.scandir("/"):
        if entry.is_symlink():
            target = os.path.normpath(os.path.join("/", os.readlink(entry.path)))
            if target != "/" and os.path.isdir(target):
                found[entry.path] = target
    return found


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _read(place: str) -> bytes | None:
    try:
        with open(place, "rb") as stream:
            return stream.read()
    except OSError:
        return None
