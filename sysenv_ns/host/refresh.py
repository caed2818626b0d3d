"""Finds which part of a host tree has changed since its mirror was made; reads no contents and writes nothing.

Replacing, adding or removing a file (dpkg renames) changes the times of its directory. So all
directories are compared, and only those that changed are read. A file that is changed in place is found only if its
own signature is compared: for all files in a thorough search, else for those that the policy names.

Two things affect other directories. All names of a file are mirrored together, as the stub holds
the path of one of them. And a stub in a data-only lower that is not searched first depends on those before it.
"""

from __future__ import annotations

import os
import stat

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.host import layout
from sysenv_ns.host.index import Again, Index, holder
from sysenv_ns.host.layout import Tree
from sysenv_ns.host.signs import Signature, current, signature
from sysenv_ns.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Set as AbstractSet


def look(tree: Tree, earlier: Index, thorough: bool) -> Again | None:
    """Compare the directories, and the files that matter, with the host; None if the whole tree must be mirrored."""
    directories: dict[str, os.stat_result] = {}
    depths: dict[str, int] = {}
    changed: set[str] = set()
    for path, known in earlier.directories.items():
        outer = holder(path)
        status = _directory(path) if path == tree.path or outer in directories else None
        if status is None:
            changed |= {outer} & directories.keys()
            continue
        # Another file system may have been exchanged for one whose directories only look the same.
        foreign = status.st_dev != (directories[outer] if outer in directories else os.lstat(outer)).st_dev
        if signature(status) != known:
            if foreign and path != "/":
                return None
            changed.add(path)
        directories[path] = status
        depths[path] = 0 if path == tree.path else 1 if foreign else depths[outer] + 1
    if tree.path not in directories:
        return None
    for path, known in _files(tree, earlier, thorough):
        if holder(path) in directories and current(path) != known:
            changed.add(holder(path))
    return Again(earlier, directories, depths, changed)


def _directory(path: str) -> os.stat_result | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status if stat.S_ISDIR(status.st_mode) else None


def _files(tree: Tree, earlier: Index, thorough: bool) -> Iterator[tuple[str, Signature]]:
    """The files to compare one by one: all if `thorough`, else those that the host often changes in place."""
    if thorough or tree.policy.watch_stubs or tree.policy.watch_files:
        yield from earlier.entries()
        return
    limits: dict[str, int] = {}
    for path, known in earlier.copied.items():
        directory = holder(path)
        if directory not in limits:
            limits[directory] = layout.copy_limit(directory)
        if limits[directory] == policy.UNLIMITED:
            yield path, known


def spread(again: Again, tree: Tree, searched: Index) -> Again:
    """Add what changes affect: files that now clash with others, or no longer do, and further names.

    `searched` knows the data-only lowers in their order.
    """
    forced = frozenset(_flipped(again.earlier, tree, searched))
    changed = {*again.changed, *(holder(path) for path in forced)} & again.directories.keys()
    gone = again.earlier.directories.keys() - again.directories.keys()
    changed |= linked(changed, gone, again.earlier.entries(), _linked_inodes) & again.directories.keys()
    return replace(again, changed=changed, forced=forced)


def _flipped(earlier: Index, tree: Tree, searched: Index) -> Iterator[str]:
    """Stubs that must become copies, and copies that can become stubs."""
    roots: dict[str, str | None] = {}
    for path in (*earlier.stubs, *earlier.clashing):
        directory = holder(path)
        if directory not in roots:
            roots[directory] = searched.data_root(directory, tree)
        root = roots[directory]
        if root is not None and searched.clashes(root, path[len(root) :].lstrip("/")) != (path in earlier.clashing):
            yield path


def linked(
    changed: Iterable[str],
    gone: AbstractSet[str],
    entries: Iterable[tuple[str, Signature]],
    inodes_now: Callable[[str], AbstractSet[int]],
) -> set[str]:
    """The directories `changed` and all that hold further names of their files, earlier or now."""
    holders: dict[int, str] = {}
    several: dict[int, set[str]] = {}
    for path, (_, _, inode) in entries:
        directory = holder(path)
        first = holders.setdefault(inode, directory)
        if first != directory:
            several.setdefault(inode, {first}).add(directory)
    held: dict[str, set[int]] = {}
    for inode, directories in several.items():
        for directory in directories:
            held.setdefault(directory, set()).add(inode)
    found = set(changed)
    waiting = [*found, *gone]
    while waiting:
        directory = waiting.pop()
        now = () if directory in gone else inodes_now(directory)
        for inode in (*held.get(directory, ()), *now):
            others = several.get(inode) or {holders[inode]} if inode in holders else set()
            waiting += others - found - gone
            found |= others - gone
    return found


def _linked_inodes(directory: str) -> set[int]:
    """The inodes of the files in a directory that have several names."""
    found = set()
    try:
        for entry in os.scandir(directory):
            if not entry.is_dir(follow_symlinks=False) and (status := entry.stat(follow_symlinks=False)).st_nlink > 1:
                found.add(status.st_ino)
    except OSError:  # gone, or closed to us: then nothing of it is mirrored
        return set()
    return found


def carry(again: Again, index: Index) -> None:
    """Copy to a new index what has not changed."""
    earlier = again.earlier
    same = again.directories.keys() - again.changed
    index.directories |= {path: signature(status) for path, status in again.directories.items()}
    index.stubs |= {path: known for path, known in earlier.stubs.items() if holder(path) in same}
    index.copied |= {path: known for path, known in earlier.copied.items() if holder(path) in same}
    index.clashing |= {path for path in earlier.clashing if holder(path) in same}
    index.left_out += (path for path in earlier.left_out if holder(path) in same)
    index.watched |= {
        path: known
        for path, known in earlier.watched.items()
        if (path in same if path in earlier.directories else holder(path) in same)
    }
