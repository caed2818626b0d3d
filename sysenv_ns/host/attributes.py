"""The extended attributes of the host's files, in the form that they have inside environments; sets none."""

from __future__ import annotations

import contextlib
import os
import struct

from sysenv_ns.kernel.idmap import IdMap

_CAPABILITY = "security.capability"
# struct vfs_cap_data, version 2 (linux/capability.h): of the namespace whose root sets it. Version 3 names another one.
_CAPABILITY_SIZE = 20
_LISTS = ("system.posix_acl_access", "system.posix_acl_default")
_HEADER, _ENTRY = struct.Struct("=I"), struct.Struct("=HHI")  # linux/posix_acl_xattr.h
_USER, _GROUP = 0x02, 0x08  # with an id
# By which overlays have in a file what belongs to another one; in a base they would take effect.
_OF_OVERLAYS = ("user.overlay.", "user.fuseoverlayfs.")


def of(path: str, id_map: IdMap) -> dict[str, bytes]:
    """The attributes of a file or directory that go into its mirror; none if it may not be read."""
    found: dict[str, bytes] = {}
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:  # gone, or a file system that has none
        return found
    for name in names:
        with contextlib.suppress(OSError):  # user.* can be read by whoever can read the file
            if (value := _inside(name, path, id_map)) is not None:
                found[name] = value
    return found


def _inside(name: str, path: str, id_map: IdMap) -> bytes | None:
    if name.startswith("user.") and not name.startswith(_OF_OVERLAYS):
        return os.getxattr(path, name, follow_symlinks=False)
    if name in _LISTS:
        return access_list(os.getxattr(path, name, follow_symlinks=False), id_map)
    if name == _CAPABILITY:
        value = os.getxattr(path, name, follow_symlinks=False)
        return value if len(value) == _CAPABILITY_SIZE else None
    return None


def access_list(value: bytes, id_map: IdMap) -> bytes | None:
    """An access control list in kernel form, without entries for users that do not exist inside; None for no list."""
    entries = value[_HEADER.size :]
    if len(entries) % _ENTRY.size:
        return None
    kept = (entry for entry in _ENTRY.iter_unpack(entries) if _exists(entry[0], entry[2], id_map))
    return value[: _HEADER.size] + b"".join(_ENTRY.pack(*entry) for entry in kept)


def _exists(tag: int, number: int, id_map: IdMap) -> bool:
    """In the single map only root exists, and root needs no entry."""
    if tag == _USER:
        return id_map.kind == "full" and id_map.uid_inside(number) == number
    return tag != _GROUP or (id_map.kind == "full" and id_map.gid_inside(number) == number)
