"""Chooses which parts of a tree that host mounts divide become data-only lowers; mounts nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sysenv_ns.host.layout import Tree
from sysenv_ns.kernel.mountinfo import is_below


def surplus_roots(trees: Sequence[Tree], room: int) -> frozenset[str]:
    """Of the data-only lowers that host mounts split these trees into, the smallest ones beyond the first `room`."""
    own = {tree.path for tree in trees}
    roots = {
        path
        for tree in trees
        for directory in tree.blocked
        if directory == tree.path or is_below(directory, tree.path)
        for path in _subdirectories(directory)
        if path not in tree.blocked and (path in own or path not in tree.stops)
    }
    if len(roots) <= room:  # nearly always: measuring takes a while
        return frozenset()
    from sysenv_ns.files import sizes

    return frozenset(sorted(roots, key=sizes.of_contents, reverse=True)[max(room, 0) :])


def _subdirectories(directory: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
