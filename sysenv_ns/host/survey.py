"""Reads the host for the base layer and the plan, as the calling user, outside the namespace; writes nothing.

Outside, because only there the owners of files are visible: inside a user namespace the host's root is nobody.
"""

from __future__ import annotations

import os
import stat

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.files import reader
from sysenv_ns.host.layout import EntryKind, Host, HostEntry, Places, RunEntry
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.mountinfo import Mount

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLICY_ALONE = Places()


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
