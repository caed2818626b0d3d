"""Which directories need an idmapped mount for a user, and which of these mounts exist; mounts nothing.

/run/sysenv-ns/UID/SLUG    a mount for each of policy.MAPPED and each disk below; UID is the user's, mode 0700
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sysenv_ns import policy
from sysenv_ns.environment.directory import slug
from sysenv_ns.host import layout, survey
from sysenv_ns.host.layout import Host
from sysenv_ns.kernel import idmap
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.mountinfo import Mount, containing, is_below
from sysenv_ns.records import dataclass

PLACE = policy.MAPPED_PLACE


@dataclass(frozen=True)
class Part:
    """A directory that needs a mount of its own: one of policy.MAPPED, or a disk below it."""

    path: str
    mount: Mount  # which it lies on

    @property
    def name(self) -> str:
        """The name of its mount point in the user's directory."""
        return slug(self.path)


def place_of(uid: int) -> str:
    """The user's directory."""
    return f"{PLACE}/{uid}"


def parts(host: Host) -> dict[str, tuple[Part, ...]]:
    """The parts of each directory of policy.MAPPED, outer ones first."""
    trees = [path for path in policy.MAPPED if path in host.system_directories and path not in host.bound_paths]
    found = {tree: [tree, *(disk.point for disk in host.disks if is_below(disk.point, tree))] for tree in trees}
    return {tree: tuple(_part(path, host) for path in paths) for tree, paths in found.items()}


def _part(path: str, host: Host) -> Part:
    mount = containing(path, host.visible)
    assert mount is not None
    return Part(path, mount)


def is_prepared(uid: int, gid: int) -> bool:
    """Whether a user's mount of /usr exists, of /usr as it is mounted now, with the user's present ids.

    Raises SysenvError if the user has too few ids.
    """
    return policy.MAPPED[0] in found(survey.host(None, run=False), idmap.granted(uid, gid), uid)


def found(host: Host, id_map: IdMap, uid: int) -> dict[str, str]:
    """The mount points with this id map, by the path on the host; for each directory all parts or none.

    A mount of what was there before another disk was mounted, or one for other ids, does not count.
    """
    points = {
        (mount.device, mount.root): mount.point
        for mount in host.visible
        if is_below(mount.point, place_of(uid)) and {"idmapped", "ro"} <= {*mount.options}
    }
    shown: dict[str, str] = {}
    for needed in parts(host).values():
        own = {part.path: points.get(layout.disk_place(part.path, host)) for part in needed}
        whole = {path: point for path, point in own.items() if point and _fits(path, point, id_map)}
        shown |= whole if len(whole) == len(needed) else {}
    return shown


def _fits(path: str, point: str, id_map: IdMap) -> bool:
    try:
        there, here = os.stat(path), os.stat(point)
    except OSError:
        return False
    return id_map.outside(there.st_uid, there.st_gid) == (here.st_uid, here.st_gid)


def described(shown: Mapping[str, str]) -> list[str]:
    """A line for each mount."""
    return [f"{path} is mounted read-only at {point}" for path, point in sorted(shown.items())]
