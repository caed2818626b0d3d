"""The host's /run: what is in it, and what stands for each of its entries in an environment's own."""

from __future__ import annotations

import os
import stat

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.files import reader
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.operations import Directory, File, Symlink
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal, TypeAlias

EntryKind: TypeAlias = "Literal['directory', 'file', 'symlink', 'socket', 'other']"


@dataclass(frozen=True)
class RunEntry:
    """An entry of /run: its path below it, permissions, owner inside, and its content."""

    path: str
    kind: EntryKind
    mode: int
    uid: int
    gid: int
    live: bool = False  # a directory to show whole
    bound: bool = False  # the same, with what is mounted in it
    content: bytes = b""  # of a file, or the destination of a symbolic link

    @property
    def operation(self) -> Directory | Symlink | File | None:
        """What represents it in an environment's /run, unless it is bound there.

        Links to sockets and live directories, not mounts of them: they keep working when a daemon of the host restarts,
        and a daemon inside may replace them.
        """
        target = f"/run/{self.path}"
        if self.live or self.kind == "socket":
            return Symlink(target, f"{policy.RUN_OF_HOST}/{self.path}")
        if self.kind == "directory":
            return Directory(target, self.mode, self.uid, self.gid)
        if self.kind == "symlink":
            return Symlink(target, self.content.decode("utf-8", "surrogateescape"))
        return File(target, self.mode, self.uid, self.gid, self.content) if self.kind == "file" else None


def kind_of(mode: int) -> EntryKind:
    """The kind of an entry with this st_mode."""
    kinds: dict[int, EntryKind] = {
        stat.S_IFDIR: "directory",
        stat.S_IFREG: "file",
        stat.S_IFLNK: "symlink",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "other")


def sockets(id_map: IdMap | None) -> tuple[RunEntry, ...]:
    """The entries of /run that lead to daemons of the host, parents first; cheaper, without files."""
    return tuple(entry for entry in entries("", set(), id_map, contents=False) if entry.kind != "file")


def entries(below: str, mount_points: set[str], id_map: IdMap | None, contents: bool = True) -> Iterator[RunEntry]:
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
            entry = _entry(path, mount_points, id_map, contents)
        except OSError:  # gone, not ours, or like those in /run/docker/netns without content (EINVAL)
            continue
        yield entry
        if entry.kind == "directory" and not entry.live and path not in policy.RUN_FRESH:
            yield from entries(path, mount_points, id_map, contents)


def _entry(path: str, mount_points: set[str], id_map: IdMap | None, contents: bool) -> RunEntry:
    source = f"/run/{path}"
    status = os.lstat(source)
    kind = kind_of(status.st_mode)
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
