"""Walks through the host for the base layer, as the calling user, outside the namespace; writes nothing.

Outside, because only there the owners of files are visible: inside a user namespace the host's root is nobody.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sysenv_ns import policy
from sysenv_ns.basics import opened
from sysenv_ns.files import reader
from sysenv_ns.host import attributes, layout, standins
from sysenv_ns.host.base_files import (
    ATTRIBUTES,
    BIG,
    COPY,
    DIRECTORY,
    FIFO,
    LINK,
    STUB,
    SYMLINK,
    Data,
    Kind,
    Record,
)
from sysenv_ns.host.index import Again, Index, holder
from sysenv_ns.host.layout import Tree
from sysenv_ns.host.signs import signature
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.idmap import IdMap

# What an environment has the extended attributes of; a further name of a file has those of the first.
_CARRIERS = frozenset({COPY, BIG, STUB})

Limits = tuple[int, int]  # up to which size (bytes) files are copied: if a stub takes a block, and if it takes none


class Batch(NamedTuple):
    """A directory (path relative to the layer, "" for its root) and everything in it but its subdirectories.

    `kept`: it exists already; these names in it stay, all others are removed. None: nothing is removed.
    """

    directory: str
    record: Record
    entries: list[Record]
    kept: list[str] | None = None


def _readable(path: str, status: os.stat_result) -> bool:
    return bool(status.st_mode & stat.S_IROTH) or os.access(path, os.R_OK)


class Walk:
    """One pass over a host tree, yielding a Batch for every directory, parents first."""

    def __init__(
        self,
        tree: Tree,
        id_map: IdMap,
        data: Data,
        index: Index,
        progress: Callable[[float], None],
        again: Again | None = None,
    ) -> None:
        """`again`: only this part, and what is new in it; the index then already has all the rest."""
        self._tree = tree
        self._id_map = id_map
        self._data = data
        self._index = index
        self._progress = progress
        self._first_links: dict[tuple[int, int], str] = {}
        self._again = again
        self._seen: set[str] = set()  # directories in those that are read again
        self._uids: dict[int, int] = {}
        self._gids: dict[int, int] = {}

    def batches(self) -> Iterator[Batch]:
        """The directories down to the tree's root, then the tree itself. Raises OSError for an unreadable root."""
        parts = [part for part in self._tree.path.split("/") if part]
        for depth in range(len(parts)):
            path = "/" + "/".join(parts[:depth])
            yield Batch(path[1:], self._record(DIRECTORY, "", os.lstat(path), None), [])
        if self._again is None:
            yield from self._directory(self._tree.path, os.lstat(self._tree.path), 0, 0.0, 1.0)
        else:
            yield from self._changed(self._again)

    def _changed(self, again: Again) -> Iterator[Batch]:
        gone: set[str] = set()
        for path, status in again.directories.items():
            outer = holder(path)
            if path != self._tree.path and (outer in gone or (outer in again.changed and path not in self._seen)):
                gone.add(path)  # since it was looked at: its mirror has gone with that of its parent
            elif path in again.changed:
                yield from self._directory(path, status, again.depths[path], 0.0, 1.0)

    def _directory(self, path: str, status: os.stat_result, depth: int, begin: float, end: float) -> Iterator[Batch]:
        """`begin` to `end` is this directory's share of the progress: the total is not known in a single pass."""
        directories: list[tuple[str, os.stat_result]] = []
        entries: list[Record] = []
        kept: list[str] | None = [] if self._again is not None and path in self._again.changed else None
        whole = False  # whether the mirror of this directory is all that there is to see
        if path not in self._tree.stops or path == self._tree.path:
            self._index.directories[path] = signature(status)
            self._watch(path, status, depth)
            whole = layout.copy_limit(path) == policy.UNLIMITED
            try:
                self._read(path, status, depth, entries, directories, kept)
            except FileNotFoundError:  # removed since its parent was read
                directories, entries, kept = [], [], None if kept is None else []
            except PermissionError:
                # Readable but not searchable, or not readable at all: a private, empty stand-in.
                directories, entries, kept, whole = [], [], None if kept is None else [], True
                self._index.unreadable.append(path)
        self._attributes(path, ".", entries)
        if self._data == "host" and whole:
            entries.append(self._record(COPY, policy.FUSE_OPAQUE, status, b""))
        yield Batch(path.lstrip("/"), self._record(DIRECTORY, "", status, None), entries, kept)
        share = (end - begin) / (len(directories) or 1)
        for number, (name, child) in enumerate(directories):
            start = begin + number * share
            child_path = f"{path}/{name}" if path != "/" else f"/{name}"
            # What may be exchanged as a whole, another file system, is watched like a directory at the tree's top.
            child_depth = depth + 1 if child.st_dev == status.st_dev else 1
            yield from self._directory(child_path, child, child_depth, start, start + share)
        if depth < 4:
            self._progress(end)

    def _read(
        self,
        directory: str,
        own: os.stat_result,
        depth: int,
        entries: list[Record],
        directories: list[tuple[str, os.stat_result]],
        kept: list[str] | None,
    ) -> None:
        limits = layout.copy_limit(directory), layout.inline_limit(directory)
        root = self._index.data_root(directory, self._tree) if self._data == "stub" else None
        prefix = directory.rstrip("/")
        for entry in os.scandir(directory):
            path = f"{prefix}/{entry.name}"
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # the host goes on living
                continue
            except OSError:
                if not os.access(directory, os.X_OK):
                    raise
                # A mounted file system that refuses (another user's, dead): it is bound on top, in /etc it is left out.
                if path not in self._tree.stops:
                    self._index.left_out.append(path)
                    continue
                status = own
            if layout.left_out(path) and not stat.S_ISDIR(status.st_mode):
                continue
            if self._again is not None and kept is not None and self._keeps(path, status, self._again):
                kept.append(entry.name)
                continue
            if stat.S_ISDIR(status.st_mode):
                if kept is not None and path in self._tree.stops:
                    kept.append(entry.name)
                directories.append((entry.name, status))
            elif record := self._file(path, entry.name, status, limits, root):
                # A symbolic link can only be replaced, which its directory shows.
                if self._tree.policy.watch_files and record[0] != SYMLINK:
                    self._watch(path, status, depth + 1)
                if record[0] != STUB:
                    self._index.copied[path] = signature(status)
                entries.append(record)
                self._attributes(path, entry.name, entries)

    def _keeps(self, path: str, status: os.stat_result, again: Again) -> bool:
        """Whether an entry of a directory that is read again needs no new mirror, or gets it separately."""
        if stat.S_ISDIR(status.st_mode):
            self._seen.add(path)
            return path in again.directories
        # Of several names of one file all are mirrored anew, or none; some contents depend on other files.
        if status.st_nlink > 1 or standins.content(path) is not None or not again.holds(path, status):
            return False
        self._index.keep(path, again.earlier)
        return True

    def _file(self, path: str, name: str, status: os.stat_result, limits: Limits, root: str | None) -> Record | None:
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            target = policy.LIVE_LINKS[path] if path in policy.LIVE_LINKS else os.readlink(path)
            return self._record(SYMLINK, name, status, target)
        if stat.S_ISFIFO(mode):
            return self._record(FIFO, name, status, None)
        if stat.S_ISREG(mode):
            return self._regular(path, name, status, limits, root)
        if stat.S_ISSOCK(mode) and mountinfo.is_below(path, policy.SOCKETS):
            return self._record(SYMLINK, name, status, f"{policy.SOCKETS_OF_HOST}{path[len(policy.SOCKETS) :]}")
        # Elsewhere a socket without its server is dead, a device cannot be made here, and a 0:0 device is a whiteout.
        self._index.left_out.append(path)
        return None

    def _regular(self, path: str, name: str, status: os.stat_result, limits: Limits, root: str | None) -> Record | None:
        if path in self._tree.stops:
            return self._record(COPY, name, status, b"")
        if self._data == "host" and limits[0] < policy.UNLIMITED and _readable(path, status):
            return None
        if status.st_nlink > 1:
            first = self._first_links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                return self._record(LINK, name, status, first.lstrip("/"))
        return self._content_of(path, name, status, limits, root)

    def _content_of(self, path: str, name: str, status: os.stat_result, limits: Limits, root: str | None) -> Record:
        size = status.st_size
        if size > policy.LOG_LIMIT and mountinfo.is_below(path, policy.LOGS):
            return self._record(COPY, name, status, b"")
        if path == policy.DPKG_STATUS:
            return self._record(COPY, name, status, standins.package_status(self._content(path, size) or b""))
        redirect = f"/{path[len(root) :].lstrip('/')}" if root is not None and size > min(limits) else ""
        if redirect and size > limits[len(os.fsencode(redirect)) <= policy.INLINE] and _readable(path, status):
            assert root is not None
            self._index.use(root)
            if not self._index.clashes(root, redirect[1:]):
                self._index.stubs[path] = signature(status)
                return self._record(STUB, name, status, (size, redirect))
            self._index.clashing.add(path)
        if size > policy.MEBIBYTE and os.access(path, os.R_OK):
            return self._record(BIG, name, status, path)
        content = self._content(path, size)
        if content is not None:
            return self._record(COPY, name, status, content)
        self._index.unreadable.append(path)
        instead, mode = standins.of_unreadable(path, stat.S_IMODE(status.st_mode))
        return self._record(COPY, name, status, instead, mode)

    def _content(self, path: str, size: int) -> bytes | None:
        """Not Path.read_bytes: its stream costs three more system calls for each of a hundred thousand files."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except PermissionError:
            return None
        except FileNotFoundError:  # removed since the directory was read
            return b""
        except OSError as error:
            if error.errno != errno.ELOOP:  # by now a symbolic link
                raise
            return b""
        with opened(descriptor):
            content = os.read(descriptor, size + 1)
            if len(content) > size:  # another file has its name since it was looked at, or it has grown
                left = os.fstat(descriptor).st_size - len(content)
                content += b"".join(reader.content(descriptor, max(left, 0)))
            return content

    def _attributes(self, path: str, name: str, entries: list[Record]) -> None:
        if name != "." and entries[-1][0] not in _CARRIERS:
            return
        if found := attributes.of(path, self._id_map):
            entries.append((ATTRIBUTES, name, 0, 0, 0, 0, found))

    def _watch(self, path: str, status: os.stat_result, depth: int) -> None:
        if depth <= self._tree.policy.watch_depth:
            self._index.watched[path] = signature(status)

    def _record(
        self, kind: Kind, name: str, status: os.stat_result, payload: object, mode: int | None = None
    ) -> Record:
        uid, gid = status.st_uid, status.st_gid
        if uid not in self._uids:
            self._uids[uid] = self._id_map.uid_inside(uid)
        if gid not in self._gids:
            self._gids[gid] = self._id_map.gid_inside(gid)
        mode = stat.S_IMODE(status.st_mode) if mode is None else mode
        return (kind, name, mode, self._uids[uid], self._gids[gid], status.st_mtime_ns, payload)
