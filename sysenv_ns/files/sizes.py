"""How many bytes trees have, on disk or in their files; no symbolic link is followed, and depth costs no recursion."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator

from sysenv_ns.paths import Path

_BLOCK = 512  # bytes of a unit of st_blocks, whatever the file system's own is (inode(7))


def on_disk(path: Path) -> int:
    """The bytes on disk of a file, or of a directory and all below it; what cannot be read is not counted."""
    total = 0
    with contextlib.suppress(OSError):
        total = os.lstat(path).st_blocks
    return _BLOCK * (total + sum(status.st_blocks for status in _below(str(path))))


def on_disk_once(groups: Iterable[Iterable[str]]) -> tuple[int, ...]:
    """The bytes on disk below the directories of each group, without files that were counted before under other names.

    What is deleted meanwhile is not counted. Raises OSError for what cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    found = []
    for group in groups:
        blocks = 0
        for status in (status for directory in group for status in _below(directory, FileNotFoundError)):
            blocks += 0 if (status.st_dev, status.st_ino) in seen else status.st_blocks
            seen.add((status.st_dev, status.st_ino))
        found.append(_BLOCK * blocks)
    return tuple(found)


def of_contents(directory: str, without: Collection[str] = ()) -> int:
    """The lengths of all files below a directory that can be read, except those in the directories `without`."""
    return sum(s.st_size for s in _below(directory, without=without) if not stat.S_ISDIR(s.st_mode))


def _below(directory: str, ignored: type[OSError] = OSError, without: Collection[str] = ()) -> Iterator[os.stat_result]:
    waiting = [directory]
    while waiting:
        with contextlib.suppress(ignored), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(ignored):
                    if entry.is_dir(follow_symlinks=False) and entry.path not in without:
                        waiting.append(entry.path)
                    yield entry.stat(follow_symlinks=False)
