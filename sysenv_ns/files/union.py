"""Merges directories of changes that lie above each other in an overlay into one; decides nothing.

Files are shared as hard links, so it takes little time and no space; they must not be written to any more. Marks that
hide parts of the layers below all of them (whiteouts, opaque directories) are kept. This process must be root
of the files' namespace.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from sysenv_ns.files import copies, upper
from sysenv_ns.files.marks import Marks
from sysenv_ns.files.reader import Root
from sysenv_ns.files.upper import UpperEntry


def merge(directories: Sequence[str], target: str, marks: Marks, alone: bool = False) -> None:
    """Merge the directories, uppermost first, into `target`; `marks` are those of their driver.

    `alone`: there are no layers below, so that whiteouts are not needed. Raises OSError.
    """
    _merge([(Root(directory), "") for directory in directories], target, marks, alone)


def _merge(directories: Sequence[tuple[Root, str]], target: str, marks: Marks, alone: bool) -> None:
    os.mkdir(target, 0o700)
    for name, stack, hides in _together(directories, marks):
        first, place = stack[0], f"{target}/{name}"
        if first.kind == "whiteout":
            if not alone:
                _link(first, f"{target}/{os.path.basename(first.place)}")
        elif first.kind == "file":
            _link(first, place)
        else:
            _merge([(entry.layer, entry.below) for entry in stack], place, marks, alone or hides)
            if hides:
                os.setxattr(place, marks.opaque, b"y")
    uppermost = "".join((directories[0][0].path, directories[0][1]))
    copies.dress(target, uppermost, os.lstat(uppermost))


def _together(
    directories: Sequence[tuple[Root, str]], marks: Marks
) -> Iterator[tuple[str, Sequence[UpperEntry], bool]]:
    """What has the same name in them: what shows, and if that is a directory all that it is merged of; and whether
    this hides what lies below them all.
    """
    found: dict[str, list[UpperEntry]] = {}
    for layer, directory in directories:
        for name, seen in upper.entries(layer, directory, marks):
            found.setdefault(name, []).append(seen)
    for name, entries in found.items():
        yield name, *upper.shown(entries)


def _link(entry: UpperEntry, target: str) -> None:
    try:
        os.link(entry.place, target, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        copies.copy(entry.place, target, entry.status)
