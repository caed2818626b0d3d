"""Copies files with all their metadata, as root of their namespace; decides nothing.

Not cp(1): that of busybox does not copy attributes, which an upper directory depends on.
"""

from __future__ import annotations

import errno
import os
import stat

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened
from sysenv_ns.files import reader
from sysenv_ns.kernel import syscalls

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Set as AbstractSet


def copy_tree(source: str, target: str, without: AbstractSet[str] = frozenset()) -> None:
    """Copy a directory with devices, attributes and hard links; the paths `without` are left out.

    Data is shared where the file system can. Raises OSError.
    """
    _Copier(without).directory(source, target)


class _Copier:
    def __init__(self, without: AbstractSet[str]) -> None:
        self._without = without
        self._links: dict[int, str] = {}

    def directory(self, source: str, target: str) -> None:
        os.mkdir(target, 0o700)
        with os.scandir(source) as found:
            entries = list(found)
        for entry in entries:
            if entry.path in self._without:
                continue
            place = f"{target}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                self.directory(entry.path, place)
                continue
            status = entry.stat(follow_symlinks=False)
            first = self._links.setdefault(status.st_ino, place) if status.st_nlink > 1 else place
            if first != place:
                os.link(first, place, follow_symlinks=False)
            else:
                copy(entry.path, place, status)
        dress(target, source, os.lstat(source))


def copy(source: str, target: str, status: os.stat_result, attributes: Collection[str] | None = None) -> None:
    """Copy one file that is not a directory; `target` must not exist. `attributes`: their names, if known.

    Raises OSError.
    """
    mode = status.st_mode
    if stat.S_ISREG(mode):
        _content(source, target)
    elif stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISFIFO(mode):
        os.mkfifo(target, 0o600)
    else:
        os.mknod(target, 0o600 | stat.S_IFMT(mode), status.st_rdev)
    dress(target, source, status, attributes)


def copy_file(source: str, target: str) -> None:
    """Copy a regular file of the tool's own, with its mode and times. Raises OSError."""
    status = os.lstat(source)
    _content(source, target)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _content(source: str, target: str) -> None:
    with (
        opened(reader.open_file(source)) as reading,
        opened(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)) as writing,
    ):
        syscalls.copy_data(reading, writing)


def dress(target: str, source: str, status: os.stat_result, attributes: Collection[str] | None = None) -> None:
    """Give a file the owner, mode, attributes and times of another one, given its status. Raises OSError."""
    os.lchown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(source, follow_symlinks=False) if attributes is None else attributes:
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        except OSError as error:
            # A label that the system's policy gives by itself.
            if name != "security.selinux" or error.errno not in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
                raise
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
