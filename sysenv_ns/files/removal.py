"""Deletes trees with files of an environment's ids; does not decide whether they may be deleted."""

from __future__ import annotations

import errno
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence


def remove_tree(path: Path, id_map: IdMap | None) -> None:
    """Delete `path` and all below it as root of a namespace with the map that made it. Raises OSError, SysenvError.

    Files of subordinate ids, and the directory of mode 000 that overlayfs leaves, can only be deleted there.
    """
    remove_trees([path], id_map)


def remove_trees(paths: Sequence[Path], id_map: IdMap | None) -> None:
    """The same for several, in one namespace; the first error is raised after all others were deleted."""
    if id_map is None and os.geteuid() != 0:  # no namespace has been there, so all is this user's
        _delete_all(paths)
    elif paths:
        namespace.run_inside(id_map, lambda: _delete_all(paths), "sysenv-ns-rm")


def _delete_all(paths: Sequence[Path]) -> None:
    errors = []
    for path in paths:
        try:
            if path.is_symlink():
                raise OSError(f"{path} is a symbolic link")
            delete(path)
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def delete(path: Path) -> None:
    """Delete a directory and all below it, at any depth, without following a symbolic link. Raises OSError.

    Not shutil.rmtree, which recurses, and fails at a thousand levels. One directory is open at a time.
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
    """A directory on the way down, and its directories that are not deleted yet."""

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
