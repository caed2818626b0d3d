"""PURE: divides the host's files among layers so that an upgrade changes few of them; reads no files.

The files of a source package change together. Each of the largest ones has a layer of its own, the others share a few,
by their names: so a package more or less, or a new version, leaves all layers but one or two as they are.
"""

from __future__ import annotations

import heapq
import posixpath
import zlib
from collections.abc import Mapping

LARGE = 16  # units with a layer of their own
SHARED = 4  # layers of all others
# What no package has there: accounts, settings, databases, logs. It changes most often, and is small.
_STATE = ("/etc", "/var")
_DEPTH = 4  # parts of a path that name the unit of what no package has: /usr/local/go, /var/lib/apt


def unit(path: str, source: str | None) -> str:
    """What a file is upgraded with: its source package, or where it is."""
    if source is not None:
        return source
    return "/".join(posixpath.dirname(path).split("/")[:_DEPTH]) or "/"


def layers(sizes: Mapping[str, int]) -> dict[str, str]:
    """The name of a layer for each unit, from the size of each."""
    large = set(heapq.nsmallest(LARGE, sizes, key=lambda name: (-sizes[name], name)))
    return {name: name if name in large else _shared(name) for name in sizes}


def _shared(name: str) -> str:
    """Names of packages have no blanks, and those of directories begin with a slash."""
    if name.startswith(_STATE):
        return "state of the host"
    return f"others {zlib.crc32(name.encode('utf-8', 'surrogateescape')) % SHARED + 1}"
