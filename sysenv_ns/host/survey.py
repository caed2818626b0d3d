"""Reads the host for the base layer and the plan, as the calling user, outside the namespace; writes nothing.

Outside, because only there the owners of files are visible: inside a user namespace the host's root is nobody.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.host import run_directory
from sysenv_ns.host.layout import Host, HostEntry, Places
from sysenv_ns.host.run_directory import EntryKind
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
        run=tuple(run_directory.entries("", points, id_map)) if run else (),
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
            yield HostEntry(entry.name, run_directory.kind_of(status.st_mode), status.st_size)
