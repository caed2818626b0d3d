"""Thin functions over the system calls that Python lacks; they raise OSError and know nothing of environments.

Numbers below 424 differ between architectures, so older calls go through the C library's wrappers;
from 424 on all architectures share one table (Linux 5.1, asm-generic/unistd.h).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened, suppress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

try:
    # Not `import prctl`: the Python half of python-prctl fails at import on kernels with capabilities that it
    # has no name for (it forgot to import warnings); its C half is all that is needed.
    import _prctl
except ImportError:  # it has no wheel, and compiling it is not worth a compiler
    _prctl = None

# unshare(2), setns(2)
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000

# mount(2)
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), mount_setattr(2)
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 0x1, 0x2, 0x4
MOUNT_ATTR_IDMAP = 0x100000

# prctl(2), linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

# openat2(2)
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# inotify(7): written to and closed; anything that puts another file in its place
IN_CLOSE_WRITE = 0x8
IN_REPLACED = IN_CLOSE_WRITE | 0x80 | 0x100  # IN_MOVED_TO, IN_CREATE

# rename(2)
_RENAME_EXCHANGE = 2

# seccomp(2)
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5

# ioctl_ficlone(2)
_FICLONE = 0x40049409

# sendfile(2)
_CHUNK = 1 << 24  # bytes

_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_OPENAT2 = 437
_NR_MOUNT_SETATTR = 442

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


class _SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def checked(result: int, path: str | None = None, path2: str | None = None) -> int:
    """The result of a function of the C library. Raises OSError for one below 0."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path, None, path2)
    return result


def syscall(number: int, *arguments: object, path: str | None = None, path2: str | None = None) -> int:
    """syscall(2): a call by its number."""
    # Variadic C functions get no conversion from a prototype: widen integers so that no upper half is garbage.
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return checked(int(libc.syscall(ctypes.c_long(number), *words)), path, path2)


def unshare(flags: int) -> None:
    """unshare(2): leave the namespaces named by CLONE_* flags for new ones."""
    checked(libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, flags: int) -> None:
    """setns(2): enter namespaces; with a pidfd several at once (Linux 5.8)."""
    checked(libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), "setns")


def set_propagation(target: str, flags: int) -> None:
    """mount(2) with only propagation flags, for example MS_REC | MS_SLAVE."""
    checked(libc.mount(None, os.fsencode(target), None, ctypes.c_ulong(flags), None), target)


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    checked(libc.umount2(os.fsencode(target), ctypes.c_int(flags)), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    checked(libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)), new_root, put_old)


def prctl(option: int, argument: int | str) -> None:
    """prctl(2) with one argument, by python-prctl where that is installed."""
    if _prctl is not None:
        _prctl.prctl(option, argument)
        return
    value = argument.encode() if isinstance(argument, str) else ctypes.c_ulong(argument)
    rest = [ctypes.c_ulong(0)] * 3  # some options want the unused ones to be 0
    checked(libc.prctl(ctypes.c_int(option), value, *rest), "prctl")


def syncfs(fd: int) -> None:
    """syncfs(2): write out the whole file system that `fd` lies on."""
    checked(libc.syncfs(ctypes.c_int(fd)), f"descriptor {fd}")


def exchange(one: str, other: str) -> None:
    """Swap what two paths of one file system name, at once: renameat2(2), RENAME_EXCHANGE."""
    encoded = os.fsencode(one), os.fsencode(other)
    checked(libc.renameat2(AT_FDCWD, encoded[0], AT_FDCWD, encoded[1], _RENAME_EXCHANGE), one, other)


def open_tree(path: str, *, recursive: bool) -> int:
    """open_tree(2) (Linux 5.2): a detached bind mount of `path`, no link, where an automount stays untriggered."""
    flags = OPEN_TREE_CLOEXEC | OPEN_TREE_CLONE | AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW
    flags |= AT_RECURSIVE if recursive else 0
    return syscall(_NR_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags, path=path)


def clone_mount(directory: int, path: str, recursive: bool = False) -> int:
    """open_tree(2): a detached bind mount of the directory behind a descriptor; with what is mounted below it if asked.

    `path` is only for the error message.
    """
    flags = OPEN_TREE_CLOEXEC | OPEN_TREE_CLONE | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    return syscall(_NR_OPEN_TREE, directory, b"", flags, path=path)


def move_mount(mount_fd: int, target_fd: int, target: str) -> None:
    """move_mount(2) (Linux 5.2): attach a detached mount to the directory or file behind `target_fd`.

    `target` is only for the error message.
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    syscall(_NR_MOVE_MOUNT, mount_fd, b"", target_fd, b"", flags, path=target)


def mount_setattr_readonly(mount_fd: int, path: str) -> None:
    """mount_setattr(2) (Linux 5.12): make the whole detached tree read-only."""
    _mount_setattr(mount_fd, path, AT_RECURSIVE, _MountAttr(attr_set=MOUNT_ATTR_RDONLY))


def mount_setattr(mount_fd: int, path: str, attributes: int, propagation: int = 0) -> None:
    """mount_setattr(2): give a mount, not those below it, MOUNT_ATTR_*, and a type of propagation (0: as it is)."""
    _mount_setattr(mount_fd, path, 0, _MountAttr(attr_set=attributes, propagation=propagation))


def mount_setattr_idmapped(mount_fd: int, path: str, user_namespace: int, attributes: int) -> None:
    """mount_setattr(2), MOUNT_ATTR_IDMAP: let a detached mount show ids as the map of a user namespace has them.

    It becomes private: what is mounted below the original later does not arrive in it. With further MOUNT_ATTR_* at
    once. EINVAL where the file system cannot (ext4, xfs: Linux 5.12, btrfs: 5.15, tmpfs: 6.3), or the mount has been
    attached or mapped already; EPERM for who is not root over the file system.
    """
    changes = _MountAttr(attr_set=MOUNT_ATTR_IDMAP | attributes, propagation=MS_PRIVATE, userns_fd=user_namespace)
    _mount_setattr(mount_fd, path, 0, changes)


def _mount_setattr(mount_fd: int, path: str, flags: int, attributes: _MountAttr) -> None:
    size = ctypes.sizeof(attributes)
    syscall(_NR_MOUNT_SETATTR, mount_fd, b"", AT_EMPTY_PATH | flags, ctypes.byref(attributes), size, path=path)


def inotify_init() -> int:
    """inotify_init1(2): a queue of events, for `inotify_add_watch`."""
    return checked(int(libc.inotify_init1(ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))), "inotify")


def inotify_add_watch(descriptor: int, path: str, events: int) -> int:
    """inotify_add_watch(2): the number that events of this file, or in this directory, have."""
    watch = libc.inotify_add_watch(ctypes.c_int(descriptor), os.fsencode(path), ctypes.c_uint32(events))
    return checked(int(watch), path)


def openat2(dir_fd: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2) (Linux 5.6)."""
    how = _OpenHow(flags=flags | os.O_CLOEXEC, resolve=resolve)
    return syscall(_NR_OPENAT2, dir_fd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how), path=path)


def seccomp_set_filter(number: int, program: bytes, flags: int) -> int:
    """seccomp(2): put a BPF program in force; with SECCOMP_FILTER_FLAG_NEW_LISTENER returns a descriptor (Linux 5.0).

    `number` is the call's own. With CAP_SYS_ADMIN in its user namespace a process needs no no_new_privs for it. EBUSY
    when a filter of this process has a listener already.
    """
    fprog = _SockFprog(len(program) // 8, program)
    return syscall(number, SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(fprog), path="seccomp")


def copy_data(source: int, target: int) -> None:
    """Give an empty file the data of another one, shared where the file systems can. Raises OSError."""
    if not clone_file(source, target):
        while os.sendfile(target, source, None, _CHUNK):
            pass


def clone_file(source: int, target: int) -> bool:
    """FICLONE, ioctl_ficlone(2): share all data of one file with another; False where the file systems cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        # EXDEV: another file system (before Linux 5.18: another mount); EINVAL: no regular file, or not aligned.
        if error.errno in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            return False
        raise
    return True


class FilesystemContext:
    """A file system being configured: fsopen(2), fsconfig(2), fsmount(2) (Linux 5.2); a context manager.

    The kernel writes its reasons into the context's log; an OSError raised here carries them in `strerror`.
    """

    def __init__(self, fstype: str) -> None:
        self._fstype = fstype
        self._fd = syscall(_NR_FSOPEN, fstype.encode(), FSOPEN_CLOEXEC, path=fstype)

    def __enter__(self) -> FilesystemContext:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def set_flag(self, key: str) -> None:
        """A mount option without a value."""
        self._configure(FSCONFIG_SET_FLAG, key.encode(), None, 0)

    def set_string(self, key: str, value: str) -> None:
        """A mount option with a value of at most 255 bytes."""
        self._configure(FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)

    def set_fd(self, key: str, fd: int) -> None:
        """A mount option whose value is a descriptor (overlay layers: Linux 6.13)."""
        self._configure(FSCONFIG_SET_FD, key.encode(), None, fd)

    def mount(self) -> int:
        """Create the file system and return a detached mount of it."""
        self._configure(FSCONFIG_CMD_CREATE, None, None, 0)
        return self._logged(lambda: syscall(_NR_FSMOUNT, self._fd, FSMOUNT_CLOEXEC, 0, path=self._fstype))

    def _configure(self, command: int, key: bytes | None, value: bytes | None, aux: int) -> None:
        name = key.decode() if key else self._fstype
        self._logged(lambda: syscall(_NR_FSCONFIG, self._fd, command, key, value, aux, path=name))

    def _logged(self, call: Callable[[], int]) -> int:
        try:
            return call()
        except OSError as error:
            log = self._log()
            if log:
                raise OSError(error.errno, f"{error.strerror}: {log}", error.filename) from None
            raise

    def _log(self) -> str:
        lines = []
        with suppress(OSError):  # ENODATA ends the log
            while line := os.read(self._fd, 4096):
                lines.append(line.decode(errors="replace").strip())
        return "; ".join(line.partition(" ")[2] or line for line in lines)


def attach(mount_fd: int, directory: str) -> None:
    """Attach a detached mount to a directory, in which it shows in this mount namespace only. Raises OSError."""
    with opened(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as place:
        move_mount(mount_fd, place, directory)


def new_tmpfs(mode: int = 0o755) -> int:
    """A detached mount of an empty tmpfs, whose directory belongs to root of the user namespace. Raises OSError."""
    return new_filesystem("tmpfs", (f"mode={mode:o}", "uid=0", "gid=0"))


def new_filesystem(fstype: str, options: Iterable[str]) -> int:
    """A detached mount of a new file system with such options as mount(8) takes. Raises OSError."""
    with FilesystemContext(fstype) as context:
        for key, given, value in (option.partition("=") for option in options):
            context.set_string(key, value) if given else context.set_flag(key)
        return context.mount()
