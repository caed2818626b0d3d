"""Merges directories of changes, as they lie above each other in an overlay, into one; decides nothing.

Files are shared as hard links, so it takes little time and no room; nobody may write to them any more. What hides
something of the layers below all of them (whiteouts, opaque directories) goes on doing so. This process must be root
of the files' namespace.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from sysenv_ns.kernel import copying
from sysenv_ns.upper import view
from sysenv_ns.upper.view import Entry, Signs


def merge(directories: Sequence[str], target: str, signs: Signs, alone: bool = False) -> None:
    """Make `target` what the directories, uppermost first, are together; `signs` are those of their driver.

    `alone`: nothing can show through from below, where a whiteout would be listed. Raises OSError.
    """
    os.mkdir(target, 0o700)
    for name, stack, hides in _together(directories, signs):
        first, place = stack[0], f"{target}/{name}"
        if first.kind == "whiteout":
            if not alone:
                _link(first, f"{target}/{os.path.basename(first.place)}")
        elif first.kind == "file":
            _link(first, place)
        else:
            merge([entry.place for entry in stack], place, signs, alone or hides)
            if hides:
                os.setxattr(place, signs.opaque, b"y")
    copying.dress(target, directories[0], os.lstat(directories[0]))


def _together(directories: Sequence[str], signs: Signs) -> Iterator[tuple[str, Sequence[Entry], bool]]:
    """What has the same name in them: what shows, and if that is a directory all that it is merged of; and whether
    this hides what lies below them all.
    """
    found: dict[str, list[Entry]] = {}
    for directory in directories:
        with os.scandir(directory) as listed:
            for entry in listed:
                if not signs.is_mark(entry.name):
                    name, seen = view.entry_of(entry, signs)
                    found.setdefault(name, []).append(seen)
    for name, entries in found.items():
        yield name, *view.shown(entries)


def _link(entry: Entry, target: str) -> None:
    try:
        os.link(entry.place, target, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        copying.copy(entry.place, target, entry.status)
