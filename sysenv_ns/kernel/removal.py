"""Deletes trees whose files belong to ids of an environment; decides nothing about whether they may be deleted."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.idmap import IdMap


def remove_tree(path: Path, id_map: IdMap | None) -> None:
    """Delete `path` and all below it as root of a namespace with the map that made it. Raises OSError, SysenvError.

    Only there files of subordinate ids, and the directory of mode 000 that overlayfs leaves, can be deleted.
    """
    if path.is_symlink():
        raise OSError(f"{path} is a symbolic link")
    namespace.run_inside(id_map, lambda: delete(path), "sysenv-ns-rm")


def delete(path: Path) -> None:
    """Delete a directory and all below it, however deep that is, and follow no symbolic link. Raises OSError.

    Not shutil.rmtree, which calls itself for each level and fails at the thousandth. One directory is open at a time.
    """
    current = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        levels = [_Level(_identity(current), [path.name])]
        while True:
            if levels[-1].directories:
                current = _moved(current, levels[-1].directories[-1])
                levels.append(_Level(_identity(current), _without_files(current)))
            elif len(levels) == 1:
                return
            else:
                levels.pop()
                current = _moved(current, "..")
                if _identity(current) != levels[-1].identity:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
                os.rmdir(levels[-1].directories.pop(), dir_fd=current)
    finally:
        os.close(current)


@dataclass(frozen=True)
class _Level:
    """A directory on the way down, and those in it that are not deleted yet."""

    identity: tuple[int, int]
    directories: list[str]


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


def _moved(directory: int, name: str) -> int:
    """The directory of that name in the place of the one that it is in."""
    found = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    os.close(directory)
    return found


def _without_files(directory: int) -> list[str]:
    """Delete all but the directories in it, which are returned."""
    with os.scandir(directory) as found:
        entries = list(found)
    directories = []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=directory)
    return directories


def trash_path(trash: Path, name: str) -> Path:
    """A new path in the trash that tells which process it belongs to."""
    return trash / f"{name}.{os.getpid()}.{os.urandom(4).hex()}"


def move_to_trash(path: Path, trash: Path) -> Path:
    """Rename what is to be deleted out of everybody's sight, at once. Raises OSError."""
    target = trash_path(trash, path.name)
    os.rename(path, target)
    return target


def empty_trash(trash: Path, id_map: IdMap | None) -> None:
    """Delete what interrupted commands have left in the trash, as far as this map can.

    What remains is of another map, whose next removal deletes it, or was reported when it could not be deleted.
    """
    for path in trash.iterdir():
        owner = path.suffixes[-2:-1] or [""]
        if owner[0][1:].isdecimal() and not Path("/proc", owner[0][1:]).exists():
            with contextlib.suppress(OSError, SysenvError):
                remove_tree(path, id_map)
