"""Looks at trees as seen by a process whose root they are; changes nothing.

Others control their contents, even meanwhile: no link is followed out of them (reader.py).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from typing import BinaryIO

from sysenv_ns.files import reader
from sysenv_ns.files.marks import is_of_overlay
from sysenv_ns.files.reader import Root

LINKS = 40  # as many symbolic links as the kernel follows, path_resolution(7)


class View:
    """A whole root. Paths are absolute; symbolic links on the way are followed inside, a last one is not."""

    def __init__(self, root: str, twin: str | None = None) -> None:
        """`twin`: the root of a tree that has the same directories and links to such, where it takes less to look."""
        self._top = Root(root)
        self._root = root.rstrip("/")
        self._twin = None if twin is None else twin.rstrip("/")
        self._directories: dict[str, str] = {"/": "", "": ""}

    def real(self, path: str) -> str:
        """The path without symbolic links before its last part."""
        directory, _, name = path.rstrip("/").rpartition("/")
        return f"{self.real_directory(directory)}/{name}" if name else "/"

    def place(self, path: str) -> str:
        """The same as a path for this process."""
        return f"{self._root}{self.real(path)}"

    def real_directory(self, path: str, depth: int = 0) -> str:
        """The path of a directory without symbolic links; "" for /."""
        known = self._directories.get(path)
        if known is not None:
            return known
        parent, _, name = path.rpartition("/")
        found = f"{self.real_directory(parent, depth)}/{name}"
        try:
            target = self._top.link(found)
        except OSError:
            pass
        else:
            if depth < LINKS:
                whole = os.path.normpath(os.path.join(found[: -len(name) - 1] or "/", target))
                found = self.real_directory(whole if whole != "/" else "", depth + 1)
        self._directories[path] = found
        return found

    def real_directories(self, paths: Iterable[str]) -> dict[str, str]:
        """The same for many, by their paths; fastest with parents first. A loop without calls of its own."""
        known, twin, lstat, kind, link = self._directories, self._twin, os.lstat, stat.S_IFMT(0xFFFF), stat.S_IFLNK
        found = {}
        for path in paths:
            cut = path.rfind("/")
            if path not in known and twin is not None and (holder := known.get(path[:cut])) is not None:
                real = holder + path[cut:]
                try:
                    if lstat(twin + real).st_mode & kind != link:
                        known[path] = real
                except OSError:  # it has none
                    pass
            found[path] = known[path] if path in known else self.real_directory(path)
        return found

    def status(self, path: str) -> os.stat_result | None:
        """lstat(2), or None if nothing is there."""
        return self._top.find(self.real(path))

    def read(self, path: str) -> bytes | None:
        """The content of a regular file; None if there is none."""
        return self._top.get(self.real(path))

    def stream(self, path: str) -> BinaryIO:
        """The content of a regular file, to be read piece by piece. Raises OSError."""
        return self._top.stream(self.real(path))

    def link(self, path: str) -> str | None:
        """The target of a symbolic link; None if it is not one."""
        with contextlib.suppress(OSError):
            return self._top.link(self.real(path))
        return None

    def names(self, path: str) -> list[str]:
        """The names in a directory; empty if it is not one."""
        try:
            return sorted(self._top.names(self.real_directory(path)))
        except OSError as error:
            if reader.is_missing(error):
                return []
            raise


def attributes(place: str) -> dict[str, bytes]:
    """The extended attributes of a file, without those of the overlay."""
    names = os.listxattr(place, follow_symlinks=False)
    own = (name for name in names if not is_of_overlay(name))
    return {name: os.getxattr(place, name, follow_symlinks=False) for name in own}


def same_content(one: BinaryIO, other: BinaryIO) -> bool:
    """Whether two open files have the same content; closes them."""
    with one, other:
        while data := one.read(reader.CHUNK):
            if data != other.read(reader.CHUNK):
                return False
        return not other.read(1)
