"""Divides what goes into an image into layers: the host's, the same for all its environments, and the changes on top.

Of the host's layers each has only files, and the last one all directories: any upgrade changes the times of these, and
must leave the layers of all other packages as they are. Reads metadata and the lists of packages; knows no archives.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sysenv_ns.diff import owners
from sysenv_ns.files import reader
from sysenv_ns.oci import layer, split
from sysenv_ns.oci.layer import Item, Links
from sysenv_ns.oci.members import ImageMember, ImageWalk
from sysenv_ns.packages import dpkg

_DIRECTORIES = "directories"
_STATUS_LIMIT = 1 << 28  # bytes


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
    units = {path: split.unit(name, sources.get(name)) for path, name in first.items()}
    sizes: dict[str, int] = {}
    for path, item in files.items():
        sizes[units[path]] = sizes.get(units[path], 0) + item.header.size
    names = split.layers(sizes)
    found: dict[str, list[Item]] = {}
    for path, item in files.items():
        found.setdefault(names[units[path]], []).append(item)
    for name in sorted(found):
        yield Layer(name, tuple(found[name]))
    yield Layer(_DIRECTORIES, tuple(item for item in items.values() if item.header.kind == "directory"))


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
