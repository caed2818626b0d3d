"""Mounts that a user namespace is refused, by other means: proc and sysfs are bound, and what is bound comes whole.

For what furnishes another root: pbuilder, schroot, mock, debootstrap. Whatever is carried out here is for a process
that is what the caller is, in its root: it may import nothing there.

- A new proc or sysfs would show processes or a network that the environment does not own: they are the host's
  (mount_too_revealing() in fs/namespace.c). The session's own is bound instead, as mmdebstrap does it itself.
- What was mounted before the session is locked below its parent (mount_namespaces(7)), which can be bound only with all
  of it: EINVAL otherwise. So it comes along.
- What has come along goes together with what it is mounted on, which is detached where umount(2) would be EBUSY. Alone
  it would be EINVAL, and is said to be gone, as schroot stops there otherwise.
- mount(8) of util-linux 2.39 and later has other calls for this (fsopen(2), open_tree(2)), and comes back to mount(2)
  where the kernel has none of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from sysenv_ns.kernel import mountinfo, syscalls
from sysenv_ns.records import dataclass

_BIND = 0x1000  # MS_BIND
_CHANGES = 32 | 8192 | 1 << 17 | syscalls.MS_PRIVATE | syscalls.MS_SLAVE | 1 << 20  # MS_REMOUNT, MS_MOVE, propagation
_MAGIC = 0xC0ED0000  # MS_MGC_VAL, which old programs give
_ATTRIBUTES = 0xF  # MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC: the numbers of MOUNT_ATTR_* as well
_EXPIRE = 4  # MNT_EXPIRE
_NO_MAGICLINKS = 0x02  # RESOLVE_NO_MAGICLINKS of openat2(2): those of /proc/self would be this process's
_KINDS = {b"proc": ("pid", "proc"), b"sysfs": ("net", "sys")}  # what it shows, in /proc/PID/ns; where a session has it
_PLACE = os.O_PATH | os.O_CLOEXEC

Reader = Callable[[int], bytes]  # of the string at an address; raises ValueError, OSError


@dataclass(frozen=True)
class Wanted:
    """What is to be done for a caller.

    `carry_out` gets descriptors of the root of the caller's mount namespace, and of the process's own directory in the
    host's /proc. It returns 0, an errno, or None if the kernel can do it, and raises OSError where the kernel shall
    refuse it. `namespaces`: what the caller has to share with this process, by the names in /proc/PID/ns.
    """

    carry_out: Callable[[int, int], int | None]
    namespaces: tuple[str, ...] = ()


def mount(arguments: Sequence[int], read: Reader) -> Wanted | None:
    """mount(2). None: the kernel can do it."""
    source_at, target_at, kind_at, flags = arguments[:4]
    flags &= 0xFFFF if flags & 0xFFFF0000 == _MAGIC else 0xFFFFFFFF
    if flags & _CHANGES or (flags & _BIND and flags & syscalls.MS_REC):
        return None
    target = read(target_at)
    if flags & _BIND:
        source = read(source_at)
        return Wanted(lambda *_: _bind_whole(source, target))
    namespace, place = _KINDS.get(read(kind_at), ("", ""))
    return Wanted(lambda outer, _: _show(outer, place, target, flags), (namespace,)) if place else None


def unmount(arguments: Sequence[int], read: Reader) -> Wanted | None:
    """umount2(2). None: the kernel can do it."""
    target, flags = read(arguments[0]), arguments[1] & 0xFFFFFFFF
    return None if flags & _EXPIRE else Wanted(lambda _, itself: _unmount(target, flags, itself))


def open_type(arguments: Sequence[int], read: Reader) -> Wanted | None:
    """fsopen(2). None: the kernel can do it."""
    namespace, place = _KINDS.get(read(arguments[0]), ("", ""))
    return Wanted(lambda *_: errno.ENOSYS, (namespace,)) if place else None


def open_source(arguments: Sequence[int], read: Reader) -> Wanted | None:
    """open_tree(2). None: the kernel can do it."""
    source, flags = read(arguments[1]), arguments[2] & 0xFFFFFFFF
    is_here = source.startswith(b"/") or arguments[0] & 0xFFFFFFFF == syscalls.AT_FDCWD & 0xFFFFFFFF
    if not is_here or flags & syscalls.AT_RECURSIVE or not flags & syscalls.OPEN_TREE_CLONE:
        return None
    return Wanted(lambda *_: errno.ENOSYS if _locked(source) is not None else None)


def _show(outer: int, place: str, target: bytes, flags: int) -> int:
    source = os.open(place, _PLACE | os.O_DIRECTORY, dir_fd=outer)
    return _attach(source, target, flags & _ATTRIBUTES)


def _bind_whole(source: bytes, target: bytes) -> int | None:
    place = _locked(source)
    return None if place is None else _attach(place, target, 0)


def _attach(source: int, target: bytes, attributes: int) -> int:
    """Bind a directory with what is mounted below; 0 or an errno."""
    path = os.fsdecode(target)
    try:
        clone = syscalls.clone_mount(source, path, recursive=True)
        if attributes:
            syscalls.mount_setattr(clone, path, attributes)
        syscalls.move_mount(clone, os.open(target, _PLACE), path)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _locked(source: bytes) -> int | None:
    """A descriptor of a directory that can be bound only with what is mounted below it; None of all else."""
    try:
        place = syscalls.openat2(syscalls.AT_FDCWD, os.fsdecode(source), _PLACE, _NO_MAGICLINKS)
    except OSError:
        return None
    try:
        os.close(syscalls.clone_mount(place, os.fsdecode(source)))
    except OSError as error:
        return place if error.errno == errno.EINVAL else None
    return None


def _unmount(target: bytes, flags: int, itself: int) -> int:
    path = os.fsdecode(target)
    try:
        syscalls.umount(path, flags)
    except OSError as error:
        follow = not flags & syscalls.UMOUNT_NOFOLLOW
        failure = error.errno or errno.EIO
        if failure not in (errno.EINVAL, errno.EBUSY) or not _is_copy(path, follow, itself):
            return failure
        if failure == errno.EBUSY:  # EINVAL: it is locked, and goes with what it is mounted on
            place = _locked(target)
            if place is None:
                return failure
            os.close(place)
            syscalls.umount(path, flags | syscalls.MNT_DETACH)
    return 0


def _is_copy(path: str, follow: bool, itself: int) -> bool:
    """Whether a mount shows what an earlier one does: it is not what the session itself has mounted."""
    directory, name = os.path.split(path.rstrip("/"))
    point = os.path.realpath(path) if follow else os.path.join(os.path.realpath(directory or "."), name)
    with open(os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=itself), "rb") as stream:
        mounts = mountinfo.parse(stream.read())
    shown = [(mount.device, mount.root) for mount in mounts]
    last = max((index for index, mount in enumerate(mounts) if mount.point == point), default=None)
    return last is not None and shown.index(shown[last]) < last


PLANS = {"mount": mount, "umount2": unmount, "fsopen": open_type, "open_tree": open_source}
