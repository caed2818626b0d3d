"""Looks at trees as somebody does whose root they are, and at upper directories as they lie; changes nothing.

Nobody else may be changing a whole root meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sysenv_ns import policy

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
LINKS = 40  # as many symbolic links as the kernel follows, path_resolution(7)
OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque")
_WHITEOUT = ".wh."
# But for those that a program inside has made: they are escaped (overlayfs, nesting).
_NOTE = re.compile(r"(user|trusted)\.(overlay\.(?!overlay\.)|fuseoverlayfs\.)")

EntryKind = Literal["file", "directory", "whiteout"]


@dataclass(frozen=True)
class Signs:
    """How the overlay of a driver writes down that something below is hidden.

    fuse-overlayfs has whiteouts and opaque directories by names too, where it cannot make a device or an attribute.
    For the kernel's overlays these are names as any other (container images unpacked inside have such files).
    """

    opaque: str  # the attribute
    by_name: bool = False

    def hidden_name(self, entry: os.DirEntry[str]) -> str | None:
        """What a whiteout hides; None for what is no whiteout."""
        if self.by_name and entry.name.startswith(_WHITEOUT):
            return entry.name[len(_WHITEOUT) :]
        status = entry.stat(follow_symlinks=False)
        return entry.name if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 else None

    def is_mark(self, name: str) -> bool:
        """Whether a file stands for nothing but that its directory is opaque."""
        return self.by_name and name in (policy.FUSE_OPAQUE, ".wh..opq")  # the second one a leftover of the first

    def is_opaque(self, path: str) -> bool:
        """Whether a directory hides what lies below it."""
        if self.by_name and os.path.lexists(f"{path}/{policy.FUSE_OPAQUE}"):
            return True
        names = os.listxattr(path, follow_symlinks=False)
        wanted = OPAQUE if self.by_name else (self.opaque,)
        return any(name in names and os.getxattr(path, name) in (b"y", b"") for name in wanted)


def signs(driver: str) -> Signs:
    """Those of a driver."""
    if driver == "fuse":
        return Signs("user.fuseoverlayfs.opaque", by_name=True)
    return Signs("trusted.overlay.opaque" if driver == "root" else "user.overlay.opaque")


class View:
    """A whole root. Paths are absolute; symbolic links on the way are followed inside, a last one is not."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._directories: dict[str, str] = {"/": "", "": ""}

    def real(self, path: str) -> str:
        """The path without symbolic links before its last part."""
        directory, _, name = path.rstrip("/").rpartition("/")
        return f"{self._directory(directory)}/{name}" if name else "/"

    def place(self, path: str) -> str:
        """The same as a path of this process."""
        return f"{self._root}{self.real(path)}"

    def _directory(self, path: str, depth: int = 0) -> str:
        known = self._directories.get(path)
        if known is not None:
            return known
        parent, _, name = path.rpartition("/")
        found = f"{self._directory(parent, depth)}/{name}"
        try:
            target = os.readlink(f"{self._root}{found}")
        except OSError:
            pass
        else:
            if depth < LINKS:
                whole = os.path.normpath(os.path.join(found[: -len(name) - 1] or "/", target))
                found = self._directory(whole if whole != "/" else "", depth + 1)
        self._directories[path] = found
        return found

    def status(self, path: str) -> os.stat_result | None:
        """lstat(2), or None when there is nothing."""
        try:
            return os.lstat(self.place(path))
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise

    def read(self, path: str) -> bytes | None:
        """The content of a regular file; None when there is none."""
        return _read(self.place(path))

    def link(self, path: str) -> str | None:
        """Where a symbolic link points to; None when it is none."""
        return _link(self.place(path))

    def names(self, path: str) -> list[str]:
        """What is in a directory; nothing when it is none."""
        try:
            return sorted(os.listdir(f"{self._root}{self._directory(path)}" or "/"))
        except (FileNotFoundError, NotADirectoryError):
            return []


@dataclass(frozen=True)
class Entry:
    """Something in an upper directory; `place` is its path for this process."""

    kind: EntryKind
    place: str
    status: os.stat_result
    opaque: bool = False


class Upper:
    """The changes of an environment, by their real paths, parents first: all of them are read at once.

    What vanishes meanwhile, in an environment that runs, is left out.
    """

    def __init__(self, layers: Iterable[tuple[str, str]], signs: Signs) -> None:
        """`layers`: mount points ("" for /) with the upper directories over them, the uppermost of several first."""
        self._signs = signs
        self.entries: dict[str, Entry] = {}
        stacks: dict[str, list[str]] = {}
        for point, directory in layers:
            stacks.setdefault(point, []).append(directory)
        for point, directories in stacks.items():
            self._scan(point, directories)

    def _scan(self, path: str, directories: Sequence[str]) -> None:
        """What the directories are together, as they lie above each other."""
        found: dict[str, list[Entry]] = {}
        for directory in directories:
            for name, entry in self._entries(directory):
                found.setdefault(name, []).append(entry)
        for name in sorted(found):
            target = f"{path}/{name}"
            stack, hides = shown(found[name])
            self.entries[target] = stack[0] if stack[0].opaque == hides else replace(stack[0], opaque=True)
            if stack[0].kind == "directory":
                self._scan(target, [entry.place for entry in stack])

    def _entries(self, directory: str) -> Iterator[tuple[str, Entry]]:
        """What is in an upper directory, by the names that it stands for."""
        with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
            for entry in entries:
                if not self._signs.is_mark(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        yield entry_of(entry, self._signs)

    def get(self, path: str) -> Entry | None:
        """What is at a real path."""
        return self.entries.get(path)

    def covers(self, path: str) -> list[tuple[str, Entry]]:
        """What above a real path hides the layers below: whiteouts, files, opaque directories."""
        found = []
        parts = path.split("/")
        for end in range(2, len(parts)):
            ancestor = "/".join(parts[:end])
            entry = self.entries.get(ancestor)
            if entry is None:
                break
            if entry.kind != "directory" or entry.opaque:
                found.append((ancestor, entry))
        return found

    def below(self, directory: str) -> list[str]:
        """The names directly in a directory."""
        prefix = f"{directory}/"
        return [
            path[len(prefix) :] for path in self.entries if path.startswith(prefix) and "/" not in path[len(prefix) :]
        ]


def entry_of(entry: os.DirEntry[str], signs: Signs) -> tuple[str, Entry]:
    """Something that lies in an upper directory, and the name that it stands for: a whiteout may have another."""
    status = entry.stat(follow_symlinks=False)
    hidden = signs.hidden_name(entry)
    if hidden is not None:
        return hidden, Entry("whiteout", entry.path, status)
    if entry.is_dir(follow_symlinks=False):
        return entry.name, Entry("directory", entry.path, status, signs.is_opaque(entry.path))
    return entry.name, Entry("file", entry.path, status)


def shown(entries: Sequence[Entry]) -> tuple[Sequence[Entry], bool]:
    """Of entries of one name, the uppermost first: those that show, and whether these directories hide all below."""
    stack: list[Entry] = []
    for entry in entries:
        if entry.kind != "directory":
            return stack or [entry], bool(stack)
        stack.append(entry)
        if entry.opaque:
            return stack, True
    return stack, False


class Own:
    """The root of an environment: its changes over what lies below."""

    def __init__(self, upper: Upper, below: View) -> None:
        self._upper, self._below = upper, below

    def _of_upper(self, path: str) -> tuple[bool, str | None]:
        """Whether the environment decides about a path, and the file that it has there."""
        real = self._below.real(path)
        entry = self._upper.get(real)
        if entry is not None:
            return True, entry.place if entry.kind == "file" else None
        return bool(self._upper.covers(real)), None

    def read(self, path: str) -> bytes | None:
        """The content of a regular file; None when there is none."""
        decides, place = self._of_upper(path)
        return (_read(place) if place else None) if decides else self._below.read(path)

    def read_above(self, path: str) -> bytes | None:
        """The content of a regular file that is the environment's own."""
        _, place = self._of_upper(path)
        return _read(place) if place else None

    def link(self, path: str) -> str | None:
        """Where a symbolic link points to; None when it is none."""
        decides, place = self._of_upper(path)
        return (_link(place) if place else None) if decides else self._below.link(path)

    def has(self, path: str) -> bool:
        """Whether there is anything."""
        decides, place = self._of_upper(path)
        return place is not None if decides else self._below.status(path) is not None


def _read(place: str) -> bytes | None:
    try:
        if not stat.S_ISREG(os.lstat(place).st_mode):
            return None
        with open(place, "rb") as stream:
            return stream.read()
    except OSError as error:
        if error.errno in _MISSING:
            return None
        raise


def _link(place: str) -> str | None:
    try:
        return os.readlink(place)
    except OSError:
        return None


def is_like(one: str, other: str, statuses: Sequence[os.stat_result]) -> bool:
    """Whether two regular files or symbolic links have the same type, mode, owner, attributes and content."""
    first, second = statuses
    if (first.st_mode, first.st_uid, first.st_gid) != (second.st_mode, second.st_uid, second.st_gid):
        return False
    if stat.S_ISLNK(first.st_mode):
        return os.readlink(one) == os.readlink(other)
    if not stat.S_ISREG(first.st_mode) or first.st_size != second.st_size:
        return False
    return attributes(one) == attributes(other) and same_content(one, other)


def attributes(place: str) -> dict[str, bytes]:
    """The extended attributes of a file, without the overlay's notes to itself."""
    names = os.listxattr(place, follow_symlinks=False)
    own = (name for name in names if not is_of_overlay(name))
    return {name: os.getxattr(place, name, follow_symlinks=False) for name in own}


def is_of_overlay(name: str) -> bool:
    """Whether an attribute is an overlay's note to itself."""
    return _NOTE.match(name) is not None


def same_content(one: str, other: str) -> bool:
    """Whether two regular files have the same content."""
    with open(one, "rb") as first, open(other, "rb") as second:
        while data := first.read(1 << 20):
            if data != second.read(1 << 20):
                return False
        return not second.read(1)
