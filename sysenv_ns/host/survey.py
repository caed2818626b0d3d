"""Reads the host for the base layer and the plan, as the calling user, outside the namespace; writes nothing.

Outside, because only there the owners of files are visible: inside a user namespace the host's root is nobody.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from sysenv_ns import policy
from sysenv_ns.files import reader
from sysenv_ns.host import attributes, layout, standins
from sysenv_ns.host.index import Again, Index, holder, signature
from sysenv_ns.host.layout import EntryKind, Host, HostEntry, Places, RunEntry, Tree
from sysenv_ns.host.records import (
    ATTRIBUTES,
    BIG,
    COPY,
    DIRECTORY,
    FIFO,
    LINK,
    STUB,
    SYMLINK,
    Batch,
    Data,
    Kind,
    Record,
)
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.mountinfo import Mount

_POLICY_ALONE = Places()
# What an environment has the extended attributes of; a further name of a file has those of the first.
_CARRIERS = frozenset({COPY, BIG, STUB})


def host(id_map: IdMap | None, places: Places = _POLICY_ALONE, run: bool = True) -> Host:
    """Survey what the plan depends on; owners in /run are translated with `id_map`. Raises OSError.

    `run`: whether to read /run too, with all its files.
    """
    stores = (*(path for path in policy.HOST_STORES if path not in places.overlaid), *places.kept)
    files = [path for path in places.bound if not os.path.isdir(path)]
    mounts = mountinfo.read()
    points = {mount.point for mount in mounts}
    kinds = {mount.point: _mount_kind(mount) for mount in mountinfo.visible(mounts)}
    return Host(
        mounts=mounts,
        top=tuple(_entries("/")),
        home=_home(),
        stores=tuple(path for path in stores if os.path.isdir(path) and not os.path.islink(path)),
        run=tuple(_run_entries("", points, id_map)) if run else (),
        mounted_files=frozenset((*files, *(point for point, kind in kinds.items() if kind == "file"))),
        unreachable=frozenset(point for point, kind in kinds.items() if kind is None),
        missing_trees=frozenset(p for p in policy.TREES if os.path.islink(p) or not os.path.isdir(p)),
        bound=places.bound,
        overlaid=frozenset(places.overlaid),
    )


def _mount_kind(mount: Mount) -> EntryKind | None:
    """Whether a directory (or else a file) is mounted there; None if the user cannot access it.

    Not stat(2), which another user's or a dead FUSE file system refuses; nor O_DIRECTORY on an automounter's trigger,
    which that would trigger (open(2), O_PATH).
    """
    flags = os.O_PATH | os.O_NOFOLLOW | (0 if mount.fstype == "autofs" else os.O_DIRECTORY)
    try:
        os.close(os.open(mount.point, flags))
    except NotADirectoryError:
        return "file"
    except OSError:
        return None
    return "directory"


def _home() -> str:
    """$HOME, or / (which the plan passes over) when there is none to bind."""
    path = os.path.realpath(os.path.expanduser("~"))
    return path if os.path.isdir(path) else "/"


def _entries(directory: str) -> Iterator[HostEntry]:
    for entry in sorted(os.scandir(directory), key=lambda e: e.name):
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # gone, or a mounted file system that refuses: then a directory can be bound all the same
            yield HostEntry(entry.name, "directory" if entry.is_dir(follow_symlinks=False) else "other")
        else:
            yield HostEntry(entry.name, _kind(status.st_mode), status.st_size)


def _kind(mode: int) -> EntryKind:
    kinds: dict[int, EntryKind] = {
        stat.S_IFDIR: "directory",
        stat.S_IFREG: "file",
        stat.S_IFLNK: "symlink",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "other")


def sockets_of_run(id_map: IdMap | None) -> tuple[RunEntry, ...]:
    """The entries of /run that lead to daemons of the host, parents first; cheaper, without files."""
    return tuple(entry for entry in _run_entries("", set(), id_map, contents=False) if entry.kind != "file")


def _run_entries(below: str, mount_points: set[str], id_map: IdMap | None, contents: bool = True) -> Iterator[RunEntry]:
    """Everything in /run that an environment sees. What cannot be read is left out."""
    try:
        names = sorted(os.listdir(f"/run/{below}"))
    except (PermissionError, FileNotFoundError):
        return
    for name in names:
        path = f"{below}/{name}" if below else name
        if path in policy.RUN_ABSENT:
            continue
        try:
            entry = _run_entry(path, mount_points, id_map, contents)
        except OSError:  # gone, not ours, or like those in /run/docker/netns without content (EINVAL)
            continue
        yield entry
        if entry.kind == "directory" and not entry.live and path not in policy.RUN_FRESH:
            yield from _run_entries(path, mount_points, id_map, contents)


def _run_entry(path: str, mount_points: set[str], id_map: IdMap | None, contents: bool) -> RunEntry:
    source = f"/run/{path}"
    status = os.lstat(source)
    kind = _kind(status.st_mode)
    content = b""
    if kind == "symlink":
        content = os.readlink(os.fsencode(source))
    elif kind == "file" and contents:
        with reader.stream(source) as stream:
            content = stream.read(policy.RUN_COPY_LIMIT)
    may_be_live = kind == "directory" and path not in policy.RUN_FRESH
    bound = may_be_live and (path in policy.RUN_BOUND or source in mount_points)
    # What has been mounted since the table was read, a disk perhaps, is not walked through.
    mounted = may_be_live and status.st_dev != os.lstat("/run").st_dev
    live = may_be_live and (bound or mounted or path in policy.RUN_LIVE)
    uid = id_map.uid_inside(status.st_uid) if id_map else status.st_uid
    gid = id_map.gid_inside(status.st_gid) if id_map else status.st_gid
    return RunEntry(path, kind, stat.S_IMODE(status.st_mode), uid, gid, live, bound, content)


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
        limit = layout.copy_limit(directory)
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
            elif record := self._file(path, entry.name, status, limit, root):
                if self._tree.policy.watch_files:
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

    def _file(self, path: str, name: str, status: os.stat_result, limit: int, root: str | None) -> Record | None:
        mode = status.st_mode
        if stat.S_ISLNK(mode):
            target = policy.LIVE_LINKS[path] if path in policy.LIVE_LINKS else os.readlink(path)
            return self._record(SYMLINK, name, status, target)
        if stat.S_ISFIFO(mode):
            return self._record(FIFO, name, status, None)
        if stat.S_ISREG(mode):
            return self._regular(path, name, status, limit, root)
        if stat.S_ISSOCK(mode) and mountinfo.is_below(path, policy.SOCKETS):
            return self._record(SYMLINK, name, status, f"{policy.SOCKETS_OF_HOST}{path[len(policy.SOCKETS) :]}")
        # Elsewhere a socket without its server is dead, a device cannot be made here, and a 0:0 device is a whiteout.
        self._index.left_out.append(path)
        return None

    def _regular(self, path: str, name: str, status: os.stat_result, limit: int, root: str | None) -> Record | None:
        if path in self._tree.stops:
            return self._record(COPY, name, status, b"")
        if self._data == "host" and limit < policy.UNLIMITED and _readable(path, status):
            return None
        if status.st_nlink > 1:
            first = self._first_links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                return self._record(LINK, name, status, first.lstrip("/"))
        return self._content_of(path, name, status, limit, root)

    def _content_of(self, path: str, name: str, status: os.stat_result, limit: int, root: str | None) -> Record:
        size = status.st_size
        if size > policy.LOG_LIMIT and mountinfo.is_below(path, policy.LOGS):
            return self._record(COPY, name, status, b"")
        if path == policy.DPKG_STATUS:
            return self._record(COPY, name, status, standins.package_status(self._content(path, size) or b""))
        if root is not None and size > limit and _readable(path, status):
            relative = path[len(root) :].lstrip("/")
            self._index.use(root)
            if not self._index.clashes(root, relative):
                self._index.stubs[path] = signature(status)
                return self._record(STUB, name, status, (size, f"/{relative}"))
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
        try:
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

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
