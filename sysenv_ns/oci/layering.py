"""Divides what goes into an image into layers: the host's, the same for all its environments, and the changes on top.

The host's are divided so that an upgrade changes few of them. The files of a source package change together: each of
the largest ones has a layer of its own, the others share a few, by their names. So a package more or less, or a new
version, leaves all layers but one or two as they are. The last one has all directories, and the others only files: any
upgrade changes the times of directories. Reads metadata and the lists of packages; knows no archives.
"""

from __future__ import annotations

import heapq
import os
import posixpath
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sysenv_ns.diff import owners
from sysenv_ns.files import reader
from sysenv_ns.oci import layer
from sysenv_ns.oci.layer import Item, Links
from sysenv_ns.oci.members import ImageMember, ImageWalk
from sysenv_ns.packages import dpkg

_DIRECTORIES = "directories"
_STATUS_LIMIT = 1 << 28  # bytes

LARGE = 16  # units with a layer of their own
SHARED = 4  # layers of all others
# What no package has there: accounts, settings, databases, logs. It changes most often, and is small.
_STATE = ("/etc", "/var")
_DEPTH = 4  # parts of a path that name the unit of what no package has: /usr/local/go, /var/lib/apt


@dataclass(frozen=True)
class Layer:
    """A layer, with what is in it in a few words."""

    title: str
    items: tuple[Item, ...]


def single(walk: ImageWalk, title: str) -> tuple[Layer, ...]:
    """One layer with all that is there. Raises OSError."""
    links: Links = {}
    return (Layer(title, tuple(layer.item(member, links) for member in walk.members())),)


def layered(host: ImageWalk, whole: ImageWalk, title: str) -> tuple[Layer, ...]:
    """The host's layers and, named `title`, that of the changes. Raises OSError."""
    links: Links = {}
    items = {member.path: layer.item(member, links) for member in host.members()}
    return (*of_host(items, _sources(items)), Layer(title, tuple(_changes(items, whole))))


def of_host(items: Mapping[str, Item], sources: Mapping[str, str]) -> Iterator[Layer]:
    """The layers of these items by path, of which some are of source packages. PURE."""
    files = {path: item for path, item in items.items() if item.header.kind != "directory"}
    # All names of a file must be in one layer: that of the first one.
    first = {path: _target(item) or path for path, item in files.items()}
    units = {path: unit(name, sources.get(name)) for path, name in first.items()}
    sizes: dict[str, int] = {}
    for path, item in files.items():
        sizes[units[path]] = sizes.get(units[path], 0) + item.header.size
    names = names_of_layers(sizes)
    found: dict[str, list[Item]] = {}
    for path, item in files.items():
        found.setdefault(names[units[path]], []).append(item)
    for name in sorted(found):
        yield Layer(name, tuple(found[name]))
    yield Layer(_DIRECTORIES, tuple(item for item in items.values() if item.header.kind == "directory"))


def unit(path: str, source: str | None) -> str:
    """What a file is upgraded with: its source package, or where it is."""
    if source is not None:
        return source
    return "/".join(posixpath.dirname(path).split("/")[:_DEPTH]) or "/"


def names_of_layers(sizes: Mapping[str, int]) -> dict[str, str]:
    """The name of a layer for each unit, from the size of each."""
    large = set(heapq.nsmallest(LARGE, sizes, key=lambda name: (-sizes[name], name)))
    return {name: name if name in large else _shared(name) for name in sizes}


def _shared(name: str) -> str:
    """Names of packages have no blanks, and those of directories begin with a slash."""
    if name.startswith(_STATE):
        return "state of the host"
    return f"others {zlib.crc32(name.encode('utf-8', 'surrogateescape')) % SHARED + 1}"


def _target(item: Item) -> str | None:
    """The path that a hard link is another name of."""
    return f"/{os.fsdecode(item.header.target)}" if item.header.kind == "link" else None


def _changes(host: Mapping[str, Item], whole: ImageWalk) -> Iterator[Item]:
    """What is not as in the host's layers, and whiteouts of what is not there."""
    links: Links = {}
    directories, seen = {""}, set()
    for member in whole.members():
        seen.add(member.path)
        if stat.S_ISDIR(member.status.st_mode):
            directories.add(member.path)
        there = host.get(member.path)
        if there is None or not _is_same(member, there, whole.has_changed(member.path)):
            yield layer.item(member, links)
    for path in host:  # of what is below something that is not there, that hides it too
        if path not in seen and path.rpartition("/")[0] in directories:
            yield layer.whiteout(path)


def _is_same(member: ImageMember, there: Item, changed: bool) -> bool:
    """Whether something in the root is what the host's layers have there; directories of changes never are, as
    a layer must have all those that its files are in.
    """
    if changed:
        return member.place == there.place  # the host's own, in place of an addition
    header, status = there.header, member.status
    if member.content is not None or there.content is not None:
        return member.content == there.content
    return (
        stat.S_IFMT(status.st_mode) == _TYPES[header.kind]
        and (member.owner or (status.st_uid, status.st_gid)) == (header.uid, header.gid)
        and (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (header.mode, header.mtime_ns)
        and (header.kind != "file" or status.st_size == header.size)
    )


_TYPES = {
    **{"file": stat.S_IFREG, "link": stat.S_IFREG, "directory": stat.S_IFDIR},
    **{"symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO},
}


def _sources(paths: Iterable[str]) -> dict[str, str]:
    """The source package of each path that a package of the host has."""
    side = owners.of_host(reader.get(dpkg.STATUS, _STATUS_LIMIT))
    found = owners.owners(paths, [side], owners.links())
    names = {key: (package.field("Source").split() or [package.name])[0] for key, package in side.packages.items()}
    return {path: names.get(key, key) for path, key in found.items()}
