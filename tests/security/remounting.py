"""What a user tries with the mounts that root has made; a program of its own, run as that user in namespaces of theirs.

usage: remounting.py MOUNT SECRET...

Tries to get a writable view of MOUNT, or one without its flags, and to read each SECRET, a file of the same file system
that does not lie below it. Prints a line for each attempt that succeeded, and in the end "done".
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_MOVE = 1, 32, 4096, 16384, 8192
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE = 1
RDONLY, NOSUID, NODEV, IDMAP = 1, 2, 4, 0x100000
NR_OPEN_TREE, NR_MOVE_MOUNT, NR_MOUNT_SETATTR = 428, 429, 442
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
    )
    for way in ways:
        with contextlib.suppress(OSError):
            way()
            return True
    return False


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
    for number, (name, way) in enumerate(ways.items()):
        target = f"/mnt/{number}"
        os.mkdir(target)
        try:
            way(target)
        except OSError:
            continue
        try_place(f"level {level}, {name}", target)


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
        check(int(libc.umount2(b"/mnt", 2)))
    print("done")


if __name__ == "__main__":
    main()
