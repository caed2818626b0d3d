"""Renames and links that an overlay in a user namespace cannot do with names of lower layers, done by other means.

For a process that has become like the caller, in its root: it must not import there. Both cost as much as copying up.

- rename(2) of a directory that is in a lower layer is EXDEV (redirect_dir needs real root). It is made anew with hard
  links to all that is in it; only when that is complete it appears, in one step, and the old one is deleted.
- link(2) to a file of a lower layer leaves two inodes, until the kernel forgets the first: that one is known by the
  lower file, and nothing in a user namespace may follow the mark by which the new name could be known to be the same
  (ovl_check_origin() in fs/overlayfs/namei.c). So the file is replaced by a copy before, which has a single one.
"""

from __future__ import annotations

import errno
import os
import stat

from sysenv_ns.basics import opened, suppress
from sysenv_ns.kernel import syscalls

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BENEATH = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def rename_directory(old: bytes, new: bytes, new_base: int) -> int:
    """rename(2) of a directory; `new_base` is the one that `new` is relative to. Returns 0 or an errno."""
    try:
        os.rename(old, new, dst_dir_fd=new_base)
        return 0
    except OSError as error:
        if error.errno != errno.EXDEV:
            return error.errno or errno.EIO
    try:
        return _rename(_parent(old, None), _name(old), _parent(new, new_base), _name(new))
    except OSError as error:  # as the kernel says: many programs know what to do then
        return error.errno if error.errno in _NO_ROOM else errno.EXDEV


def _rename(source: int, old: bytes, target: int, new: bytes) -> int:
    if os.fstat(target).st_dev != os.stat(old, dir_fd=source, follow_symlinks=False).st_dev:
        return errno.EXDEV
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.stat(new, dir_fd=target, follow_symlinks=False).st_mode):
            return errno.ENOTDIR
        with opened(os.open(new, _DIRECTORY, dir_fd=target)) as descriptor:
            if os.listdir(descriptor):
                return errno.ENOTEMPTY
    temporary = _temporary()
    try:
        _link_all(source, old, target, temporary)
        os.rename(temporary, new, src_dir_fd=target, dst_dir_fd=target)
    except BaseException:
        with suppress(OSError):
            _delete(target, temporary)
        raise
    with suppress(OSError):  # by now it is what is left of a directory that has moved
        _delete(source, old)
    return 0


def _parent(path: bytes, base: int | None) -> int:
    return os.open(os.path.dirname(path.rstrip(b"/")) or b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base)


def _name(path: bytes) -> bytes:
    return os.path.basename(path.rstrip(b"/"))


def _temporary() -> bytes:
    return b".sysenv-ns-" + os.urandom(6).hex().encode()


def _link_all(source: int, name: bytes, target: int, copy: bytes) -> None:
    """Create a directory like another one, with hard links to everything in it. Raises OSError."""
    with opened(os.open(name, _DIRECTORY, dir_fd=source)) as here:
        if os.fstat(here).st_dev != os.fstat(source).st_dev:  # something is mounted there
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        os.mkdir(copy, 0o700, dir_fd=target)
        with opened(os.open(copy, _DIRECTORY, dir_fd=target)) as there:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        _link_all(here, os.fsencode(entry.name), there, os.fsencode(entry.name))
                    else:
                        os.link(entry.name, entry.name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
            _dress(there, here)


def _delete(directory: int, name: bytes) -> None:
    with opened(os.open(name, _DIRECTORY, dir_fd=directory)) as here:
        with os.scandir(here) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _delete(here, os.fsencode(entry.name))
            else:
                os.unlink(entry.name, dir_fd=here)
    os.rmdir(name, dir_fd=directory)


def separate(path: bytes, upper: int) -> None:
    """Replace a file by a copy, unless it is in the directory of changes `upper`, where link(2) works as usual.

    If the caller may not do that, nothing happens. Raises OSError.
    """
    if not _is_lower(path, upper):
        return
    parent, name, temporary = _parent(path, None), _name(path), _temporary()
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(source).st_mode):  # by now
        return
    target = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        syscalls.copy_data(source, target)
        _dress(target, source)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise


def _is_lower(path: bytes, upper: int) -> bool:
    with open("/proc/self/mountinfo", "rb") as mounts:  # in a chroot there is none for its root
        if not any(line.split()[3:5] == [b"/", b"/"] for line in mounts):
            return False
    return not is_in_upper(upper, path)


def is_in_upper(upper: int, path: bytes) -> bool:
    """Whether a file, by a path of this process, is also in the directory of changes. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        real = os.readlink(f"/proc/self/fd/{descriptor}").lstrip("/")
        os.close(syscalls.openat2(upper, real, os.O_PATH | os.O_NOFOLLOW, _BENEATH))
    except FileNotFoundError:
        return False
    finally:
        os.close(descriptor)
    return True


def _dress(target: int, source: int) -> None:
    """Give a file or directory the owner, attributes, mode and times of another one. Raises OSError."""
    status = os.fstat(source)
    own = os.fstat(target)
    if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
