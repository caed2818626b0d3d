"""Mounts that a user namespace is refused, by other means: proc and sysfs are bound, what is bound comes whole, and
terminals belong to root where others do not exist.

For what furnishes another root: pbuilder, schroot, mock, debootstrap. Whatever is carried out here is for a process
that is what the caller is, in its root: it may import nothing there.

- A new proc or sysfs would show processes or a network that the environment does not own: they are the host's
  (mount_too_revealing() in fs/namespace.c). The session's own is bound instead, as mmdebstrap does it itself.
- What was mounted before the session is locked below its parent (mount_namespaces(7)), which can be bound only with all
  of it: EINVAL otherwise. So it comes along.
- What has come along in another /proc, /sys, /dev or /run, or in one of what is mounted there, goes together with that,
  which is detached where umount(2) would be EBUSY. Alone it would be EINVAL, where schroot and `umount -R` stop: it is
  covered by an empty directory until then.
- The terminals of another root are given to somebody by number (devpts, gid=5), which is EINVAL in the single id map.
- mount(8) of util-linux 2.39 and later has other calls for this (fsopen(2), open_tree(2)), and comes back to mount(2)
  where the kernel has none of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from sysenv_ns.basics import opened
from sysenv_ns.kernel import mountinfo, syscalls
from sysenv_ns.kernel.mountinfo import Mount
from sysenv_ns.records import dataclass

_BIND = 0x1000  # MS_BIND
_CHANGES = 32 | 8192 | 1 << 17 | syscalls.MS_PRIVATE | syscalls.MS_SLAVE | 1 << 20  # MS_REMOUNT, MS_MOVE, propagation
_MAGIC = 0xC0ED0000  # MS_MGC_VAL, which old programs give
_ATTRIBUTES = 0xF  # MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC: the numbers of MOUNT_ATTR_* as well
_NO_MAGICLINKS = 0x02  # RESOLVE_NO_MAGICLINKS of openat2(2): those of /proc/self would be this process's
_KINDS = {b"proc": ("pid", "proc"), b"sysfs": ("net", "sys")}  # what it shows, in /proc/PID/ns; where a session has it
_TERMINALS, _OWNERS = b"devpts", ("uid=", "gid=")
_OWN = ("/proc", "/sys", "/dev")
_TREES = (*(f"{own}/" for own in _OWN), "/run/")  # where the session has more, some of it twice
_PLACE = os.O_PATH | os.O_CLOEXEC

Reader = Callable[[int], bytes]  # of the string at an address; raises ValueError, OSError


@dataclass(frozen=True)
class Sight:
    """What a process that has become like a caller sees beyond the caller's root, by descriptors and device numbers."""

    outer: int  # the root of the caller's mount namespace
    table: int  # its mounts, as they are seen from there
    itself: int  # the process's own directory in the host's /proc
    devices: Mapping[str, int]  # of the host's proc and sys, by the names of their directories


@dataclass(frozen=True)
class Wanted:
    """What is to be done for a caller.

    `carry_out` returns 0, an errno, or None if the kernel shall decide, and raises OSError where it shall refuse.
    `namespaces`: what the caller has to share with this process, by the names in /proc/PID/ns.
    """

    carry_out: Callable[[Sight], int | None]
    namespaces: tuple[str, ...] = ()


def devices() -> dict[str, int]:
    """The device numbers of proc and sys, for who is on the host's side. Raises OSError."""
    return {place: os.stat(f"/{place}").st_dev for _, place in _KINDS.values()}


def look_around(itself: int, devices: Mapping[str, int]) -> Sight:
    """What is seen by who is at the root of the caller's mount namespace. Raises OSError."""
    table = os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=itself)
    return Sight(os.open("/", _PLACE | os.O_DIRECTORY), table, itself, devices)


def mount(arguments: Sequence[int], read: Reader) -> Wanted | None:
    """mount(2). None: the kernel can do it."""
    source_at, target_at, kind_at, flags, data_at = arguments[:5]
    flags &= 0xFFFF if flags & 0xFFFF0000 == _MAGIC else 0xFFFFFFFF
    if flags & _CHANGES or (flags & _BIND and flags & syscalls.MS_REC):
        return None
    target = read(target_at)
    if flags & _BIND:
        source = read(source_at)
        return Wanted(lambda _: _bind_whole(source, target))
    kind, options = read(kind_at), read(data_at) if data_at else b""
    if kind == _TERMINALS and options:
        return Wanted(lambda _: _mount_terminals(os.fsdecode(options).split(","), target, flags))
    namespace, place = _KINDS.get(kind, ("", ""))
    if not place or options:  # such as hidepid= cannot be had
        return None
    return Wanted(lambda sight: _show(sight, place, target, flags), (namespace,))


def unmount(arguments: Sequence[int], read: Reader) -> Wanted | None:
    """umount2(2). None: the kernel can do it."""
    target, flags = read(arguments[0]), arguments[1] & 0xFFFFFFFF
    return None if flags & ~syscalls.UMOUNT_NOFOLLOW else Wanted(lambda sight: _unmount(target, flags, sight))


def open_type(arguments: Sequence[int], read: Reader) -> Wanted | None:
    """fsopen(2). None: the kernel can do it."""
    kind = read(arguments[0])
    if kind == _TERMINALS:
        return Wanted(lambda _: errno.ENOSYS)
    namespace, place = _KINDS.get(kind, ("", ""))
    return Wanted(lambda _: errno.ENOSYS, (namespace,)) if place else None


def open_source(arguments: Sequence[int], read: Reader) -> Wanted | None:
    """open_tree(2). None: the kernel can do it."""
    source, flags = read(arguments[1]), arguments[2] & 0xFFFFFFFF
    is_here = source.startswith(b"/") or arguments[0] & 0xFFFFFFFF == syscalls.AT_FDCWD & 0xFFFFFFFF
    if not is_here or flags & syscalls.AT_RECURSIVE or not flags & syscalls.OPEN_TREE_CLONE:
        return None
    return Wanted(lambda _: errno.ENOSYS if _locked(source) is not None else None)


PLANS = {"mount": mount, "umount2": unmount, "fsopen": open_type, "open_tree": open_source}


def _show(sight: Sight, place: str, target: bytes, flags: int) -> int | None:
    source = os.open(place, _PLACE | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=sight.outer)
    if os.fstat(source).st_dev != sight.devices[place]:  # the caller has something else there
        return None
    return _attach(source, target, flags & _ATTRIBUTES)


def _mount_terminals(options: Sequence[str], target: bytes, flags: int) -> int | None:
    """devpts without the options that name an owner, if the kernel knows none of that number: as chown(2) goes."""
    try:
        os.close(syscalls.new_filesystem("devpts", options))
    except OSError as error:
        kept = [option for option in options if not option.startswith(_OWNERS)]
        if error.errno == errno.EINVAL and len(kept) < len(options):
            return _put(syscalls.new_filesystem("devpts", kept), target, flags & _ATTRIBUTES)
    return None


def _bind_whole(source: bytes, target: bytes) -> int | None:
    place = _locked(source)
    return None if place is None else _attach(place, target, 0)


def _attach(source: int, target: bytes, attributes: int) -> int | None:
    """Bind a directory with what is mounted below; 0, an errno, or None."""
    try:
        clone = syscalls.clone_mount(source, os.fsdecode(target), recursive=True)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(source)
    return _put(clone, target, attributes)


def _put(mount: int, target: bytes, attributes: int) -> int | None:
    """Mount what is detached; 0, an errno, or None."""
    place, path = _place(target), os.fsdecode(target)
    try:
        if place is None:
            return None
        if attributes:
            syscalls.mount_setattr(mount, path, attributes)
        syscalls.move_mount(mount, place, path)
    except OSError as error:
        return error.errno or errno.EIO
    finally:  # before the answer: whoever holds it keeps it busy
        for descriptor in (mount, place):
            if descriptor is not None:
                os.close(descriptor)
    return 0


def _place(path: bytes, flags: int = 0) -> int | None:
    """A descriptor of what a path names for the caller too; None if that is not sure."""
    try:
        return syscalls.openat2(syscalls.AT_FDCWD, os.fsdecode(path), _PLACE | flags, _NO_MAGICLINKS)
    except OSError:
        return None


def _locked(source: bytes) -> int | None:
    """A descriptor of a directory that can be bound only with what is mounted below it; None of all else."""
    place = _place(source)
    if place is None:
        return None
    try:
        os.close(syscalls.clone_mount(place, os.fsdecode(source)))
    except OSError as error:
        if error.errno == errno.EINVAL:
            return place
    os.close(place)
    return None


def _unmount(target: bytes, flags: int, sight: Sight) -> int | None:
    follow, path = not flags & syscalls.UMOUNT_NOFOLLOW, os.fsdecode(target)
    place = _place(target, os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW))
    if place is None:
        return None
    with opened(place):  # not longer: it would keep the mount busy
        number = _mounted_on(place, sight.itself)
    with open(sight.table, "rb") as stream:
        mounts = mountinfo.parse(stream.read())
    mount = next((mount for mount in mounts if mount.mount_id == number), None)
    copies = [one for one in _above(mount, mounts) if _is_copy(one, mounts)] if mount else []
    if not copies:
        return None
    try:
        syscalls.umount(path, flags)
    except OSError as error:
        if error.errno == errno.EBUSY and copies[0] is mount and (place := _locked(target)) is not None:
            os.close(place)
            syscalls.umount(path, flags | syscalls.MNT_DETACH)
        elif error.errno == errno.EINVAL and copies[-1] is not mount:
            return _cover(target)
        else:
            return error.errno or errno.EIO
    return 0


def _mounted_on(directory: int, itself: int) -> int | None:
    """The number of the mount that is mounted on a directory, if any. Raises OSError.

    Not by paths, which are other ones for a caller in another root.
    """
    with opened(os.open("..", _PLACE, dir_fd=directory)) as above:
        number = mountinfo.holder(directory, itself)
        return number if number != mountinfo.holder(above, itself) else None


def _cover(target: bytes) -> int | None:
    """Mount an empty directory over another one, in which nobody can make anything; 0, an errno, or None."""
    return _put(syscalls.new_tmpfs(), target, syscalls.MOUNT_ATTR_RDONLY)


def _above(mount: Mount, mounts: Sequence[Mount]) -> Iterator[Mount]:
    """It, and what it is mounted on, and so on."""
    by_id = {one.mount_id: one for one in mounts}
    seen: Mount | None = mount
    while seen is not None:
        yield seen
        parent = by_id.get(seen.parent_id)
        seen = parent if parent is not seen else None


def _is_copy(mount: Mount, mounts: Sequence[Mount]) -> bool:
    """Whether it shows what the session has at one of its own places or below, and is not that.

    What the session itself has twice is in these trees: a mount of the host's /run is also in /run/host.
    """
    own = next((one for one in mounts if (one.device, one.root) == (mount.device, mount.root)), mount)
    if own is mount:
        return False
    return own.point in _OWN or (f"{own.point}/".startswith(_TREES) and not mount.point.startswith(_TREES))
