"""Gives files that root of an environment has created to the owner of their directories; chooses no directories."""

from __future__ import annotations

import os
import stat

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened, suppress
from sysenv_ns.kernel import syscalls
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_OVERFLOW = 65534  # whoever has no number here
_LEVELS = 500  # of directories in each other: each is held open
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Heir:
    """Who gets the files; `since`: only those created or changed later, in seconds since the epoch.

    `only_root`: only files of real root, else those of all users in this user namespace.
    """

    uid: int
    gid: int
    since: float = 0.0
    only_root: bool = False

    def gets(self, status: os.stat_result) -> bool:
        """Whether a file is to be given to the heir. Not one of real root with other names, which may be elsewhere."""
        if status.st_ctime < self.since:
            return False
        if self.only_root:
            return status.st_uid == 0 and (status.st_nlink == 1 or stat.S_ISDIR(status.st_mode))
        return status.st_uid not in (self.uid, _OVERFLOW)


@dataclass(frozen=True)
class Area:
    """Where to search files: in `top` and below, but not in the directories `passed`, by device and inode.

    Files in a store keep their owners.
    """

    top: str
    passed: Collection[tuple[int, int]] = ()


def hand_over(area: Area, heir: Heir) -> int:
    """Give the heir its files, as far as possible; returns their number.

    No link is followed, not even on the way to `top`. The owner of the checked file itself is changed, as its name can
    have become another file's meanwhile. Other file systems are left out.
    """
    try:
        top = syscalls.openat2(syscalls.AT_FDCWD, area.top, _DIRECTORY, syscalls.RESOLVE_NO_SYMLINKS)
    except OSError:
        return 0
    with opened(top):
        status = os.fstat(top)
        count = _in_directory(top, status.st_dev, area, heir, _LEVELS)
        if heir.gets(status):
            os.chown(top, heir.uid, heir.gid)
            count += 1
        return count


def owned(area: Area, uid: int) -> int:
    """How many files below `top` belong to a user."""
    count = 0
    for place, directories, files in os.walk(area.top):
        found = [(name, os.lstat(f"{place}/{name}")) for name in directories]
        count += sum(status.st_uid == uid for _, status in found)
        directories[:] = [name for name, status in found if (status.st_dev, status.st_ino) not in area.passed]
        for name in files:
            with suppress(FileNotFoundError):
                count += os.lstat(f"{place}/{name}").st_uid == uid
    return count


def _in_directory(directory: int, device: int, area: Area, heir: Heir, levels: int) -> int:
    # Whatever is made in a directory, or gets a name there, changes its times; so the others' files are not looked at.
    own = os.fstat(directory)
    changed = max(own.st_mtime, own.st_ctime) >= heir.since
    count = 0
    for name, is_directory in _entries(directory):
        if not (changed or is_directory):
            continue
        with suppress(OSError):  # gone, or not ours
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            gets = status.st_dev == device and heir.gets(status) and (status.st_dev, status.st_ino) not in area.passed
            if is_directory and levels:
                count += _descend(name, directory, status, device, area, heir, levels - 1)
            if gets:
                count += _give(name, directory, status, heir)
    return count


def _give(name: str, parent: int, seen: os.stat_result, heir: Heir) -> bool:
    """Give the heir a file, if it is still the one that was seen, and still fits. Raises OSError."""
    with opened(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as file:
        status = os.fstat(file)
        if not os.path.samestat(status, seen) or not heir.gets(status):
            return False
        os.chown(f"/proc/self/fd/{file}", heir.uid, heir.gid)  # of a link, this is the link's own
        return True


def _descend(name: str, parent: int, seen: os.stat_result, device: int, area: Area, heir: Heir, levels: int) -> int:
    if seen.st_dev != device or (seen.st_dev, seen.st_ino) in area.passed:
        return 0
    with opened(os.open(name, _DIRECTORY, dir_fd=parent)) as directory:
        if not os.path.samestat(os.fstat(directory), seen):
            return 0
        return _in_directory(directory, device, area, heir, levels)


def _entries(directory: int) -> Iterator[tuple[str, bool]]:
    """Names, and whether they are directories: a list, as the directory may change meanwhile."""
    with suppress(OSError), os.scandir(directory) as found:
        return iter([(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found])
    return iter(())
