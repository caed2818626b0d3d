"""Finds which package owns a path, by dpkg's lists, and the packages of an environment; only reads.

The environment's own lists come first.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from sysenv_ns.diff import changes
from sysenv_ns.files import reader
from sysenv_ns.files.upper import Own, Upper, UpperEntry
from sysenv_ns.kernel.mountinfo import ancestors
from sysenv_ns.packages import dpkg
from sysenv_ns.packages.dpkg import Diversion, Package
from sysenv_ns.records import dataclass

_LIST = ".list"
_MANY = 2000  # paths of a directory that is looked for as a whole
_SEARCHES = 8


@dataclass(frozen=True)
class Lists:
    """The packages of one side, and a function that reads their lists by stem (None if unreadable)."""

    packages: Mapping[str, Package]
    diversions: Mapping[str, Diversion]
    contents: Mapping[str, Callable[[], bytes | None]]

    def read(self) -> Lists:
        """The same, with all lists read."""
        found = {stem: read() for stem, read in self.contents.items()}
        return Lists(self.packages, self.diversions, {stem: partial(_itself, data) for stem, data in found.items()})

    @property
    def keys(self) -> dict[str, str]:
        """The names of the packages by their stems."""
        return {package.stem: key for key, package in self.packages.items()}


def of_host(read_status: bytes | None) -> Lists:
    """The host's side."""
    found = (name for name in reader.names(dpkg.INFO) if name.endswith(_LIST))
    contents = {name.removesuffix(_LIST): partial(_read, f"{dpkg.INFO}/{name}") for name in found}
    return Lists(dpkg.parse_status(read_status or b""), _diversions(_read(dpkg.DIVERSIONS)), contents)


def of_environment(upper: Upper, own: Own) -> Lists | None:
    """The environment's side, with only its own lists; None if its packages are the host's."""
    entry = upper.get(dpkg.STATUS)
    if entry is None:
        return None
    names = (name for name in upper.below(dpkg.INFO) if name.endswith(_LIST))
    entries = {name.removesuffix(_LIST): upper.entries[f"{dpkg.INFO}/{name}"] for name in names}
    contents = {stem: partial(_read_entry, entry) for stem, entry in entries.items() if entry.kind == "file"}
    return Lists(dpkg.parse_status(own.read(dpkg.STATUS) or b""), _diversions(own.read(dpkg.DIVERSIONS)), contents)


def _diversions(data: bytes | None) -> dict[str, Diversion]:
    return dpkg.parse_diversions(data or b"")


def owners(paths: Iterable[str], sides: Sequence[Lists], links: Mapping[str, str]) -> dict[str, str]:
    """The package of each path that has one. `links` are directories that also have another name in the lists:
    /bin for /usr/bin.
    """
    found: dict[str, str] = {}  # stems
    left = sorted(paths)
    named = _below(left, dpkg.INFO)
    for side in sides:
        left = [path for path in left if path not in found] if found else left
        if left:
            for path, stem in _owned(_without_strange(left, side, links), side, links):
                found.setdefault(path, stem)
    if not (found or named):
        return {}
    stems: dict[str, str] = {}
    for side in reversed(sides):
        stems |= side.keys
    packages = {path: stems.get(stem, stem) for path, stem in found.items()}
    return packages | {path: name for path in named if (name := changes.whose(path, stems))}


def _owned(paths: Sequence[str], side: Lists, links: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The paths, which are sorted, that a list names, with its stem."""
    named = dict(zip(paths, paths, strict=True))
    for link, directory in links.items():
        named |= {f"{link}{path[len(directory) :]}": path for path in _below(paths, directory)}
    # All at once, as of so many paths the calls would count: a path has no NUL.
    wanted = set(os.fsencode("\0".join([*named, *side.diversions])).split(b"\0"))
    for stem, read in sorted(side.contents.items()):
        for line in wanted.intersection((read() or b"").split(b"\n")):
            path = os.fsdecode(line)
            truly = dpkg.diverted(path, stem.partition(":")[0], side.diversions)
            if truly in named:
                yield named[truly], stem


def _without_strange(paths: Sequence[str], side: Lists, links: Mapping[str, str]) -> Sequence[str]:
    """Sorted paths without those in large directories in which no list names anything, as a program's own.

    Few directories are looked for, as one takes as long as a thousand paths.
    """
    moved = (*(f"{directory}/" for directory in links.values()), *(one.target for one in side.diversions.values()))
    left: list[str] = []
    seen: set[str] = set()  # directories whose paths begin before `start`
    start, searches = 0, 0
    while start < len(paths):
        end = start + 1
        above = ancestors(paths[start]) if searches < _SEARCHES and paths[start].rpartition("/")[0] not in seen else ()
        for directory in reversed([*above][:-1]):  # without /
            last = bisect_left(paths, f"{directory}0", start) if directory not in seen else start  # behind a slash
            seen.add(directory)
            if last - start >= _MANY and not any(place.startswith(f"{directory}/") for place in moved):
                searches += 1
                if not _is_in(f"{directory}/", side, links):
                    end = last
                    break
        else:
            left.append(paths[start])
        start = end
    return left


def _is_in(inner: str, side: Lists, links: Mapping[str, str]) -> bool:
    """Whether a list names anything that begins so."""
    others = (f"{link}{inner[len(to) :]}" for link, to in links.items() if inner.startswith(f"{to}/"))
    lines = [os.fsencode(f"\n{name}") for name in (inner, *others)]
    contents = (b"\n" + (read() or b"") for read in side.contents.values())
    return any(line in content for content in contents for line in lines)


def _below(paths: Sequence[str], directory: str) -> Sequence[str]:
    """Those of sorted paths that are below a directory."""
    return paths[bisect_left(paths, f"{directory}/") : bisect_left(paths, f"{directory}0")]


def links() -> dict[str, str]:
    """The directories in / that are symbolic links, with what they stand for."""
    found = {}
    for entry in os.scandir("/"):
        if entry.is_symlink():
            target = os.path.normpath(os.path.join("/", os.readlink(entry.path)))
            if target != "/" and os.path.isdir(target):
                found[entry.path] = target
    return found


def _read(place: str) -> bytes | None:
    with contextlib.suppress(OSError):
        return reader.read(place)
    return None


def _itself(data: bytes | None) -> bytes | None:
    return data


def _read_entry(entry: UpperEntry) -> bytes | None:
    with contextlib.suppress(OSError):
        return entry.get()
    return None
