"""Compares an environment's upper directories with the host, from within a namespace of its id map; changes nothing.

Files are read as the user, with the user's permissions on the host, and with the capabilities
of the namespace over all files of the environment. Owners of host files are not visible from there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from typing import BinaryIO

from sysenv_ns import policy
from sysenv_ns.diff.changes import Facts, facts_of
from sysenv_ns.diff.compared import ComparedGroups, ComparedPath
from sysenv_ns.files import reader, view
from sysenv_ns.files.upper import WHOLE, Listing, Own, Share, Upper, UpperEntry
from sysenv_ns.host import layout, standins
from sysenv_ns.host.base_files import Addition
from sysenv_ns.kernel import mountinfo
from sysenv_ns.records import dataclass

_LABEL = "security.selinux"  # the system's policy gives it by itself


@dataclass(frozen=True)
class HostFile:
    """A file of the host as environments see it; `content` replaces the file's own."""

    facts: Facts
    place: str
    content: bytes | None = None
    of_host: bool = True

    def stream(self) -> BinaryIO:
        """The file's own content, to be read piece by piece. Raises OSError."""
        return reader.stream(self.place, follow=not self.of_host)


class HostSide:
    """The files of an environment without changes, on today's host."""

    def __init__(self, added: Iterable[Addition], mirrored: bool, shadowed: Iterable[str]) -> None:
        """`mirrored`: by a base, which leaves some out; `shadowed`: what is the host's own inside, or nobody's."""
        self._added = {f"/{addition.path}": addition for addition in added}
        self._parents = {parent for path in self._added for parent in mountinfo.ancestors(path)}
        self._shadowed = frozenset(shadowed)
        self.mirrored = mirrored

    def is_shadowed(self, path: str) -> bool:
        """Whether a mount hides what the environment has at a path."""
        return path in self._shadowed

    def shadowed_of(self, paths: Mapping[str, object]) -> set[str]:
        """Those of the paths for which is_shadowed holds."""
        return paths.keys() & self._shadowed

    def is_added(self, path: str) -> bool:
        """Whether environments have an addition or a stand-in at a path."""
        return path in self._added

    def covers(self, path: str) -> bool:
        """The same as is_shadowed, also for parents of the path."""
        return self.is_shadowed(path) or any(map(self.is_shadowed, mountinfo.ancestors(path)))

    def look(self, path: str) -> HostFile | None:
        """The file at a path whose parents are directories; None for nothing."""
        if path in self._added:
            return _addition(self._added[path], path)
        try:
            status = os.lstat(path)
        except OSError:
            return HostFile(Facts("directory", 0o755, 0, 0), path, None, False) if path in self._parents else None
        facts = facts_of(status)
        if self.mirrored and (
            facts.type in ("socket", "device") or (facts.type != "directory" and layout.left_out(path))
        ):
            return None
        if not self.mirrored or facts.type != "file":
            return HostFile(facts, path)
        content, mode = self._instead(path, status, facts.mode)
        return HostFile(facts if content is None else facts._replace(size=len(content), mode=mode), path, content)

    def _instead(self, path: str, status: os.stat_result, mode: int) -> tuple[bytes | None, int]:
        """The content and mode that the base has instead of a file's own (Walk in walk.py)."""
        if not (status.st_mode & stat.S_IROTH) and not os.access(path, os.R_OK):
            return standins.of_unreadable(path, mode)
        too_long = status.st_size > policy.LOG_LIMIT and mountinfo.is_below(path, policy.LOGS)
        return (b"" if too_long else None), mode

    def names(self, path: str) -> list[str]:
        """The names in a directory; empty if it cannot be read."""
        with contextlib.suppress(OSError):
            return sorted(os.listdir(path))
        return []


def _addition(addition: Addition, path: str) -> HostFile:
    if addition.copy_of:
        size = os.stat(addition.copy_of).st_size
        return HostFile(Facts("file", addition.mode, 0, 0, size), addition.copy_of, None, False)
    content = addition.content.encode("utf-8", "surrogateescape")
    return HostFile(Facts("file", addition.mode, 0, 0, len(content)), path, content, False)


def compare(
    directories: Iterable[Listing], host: HostSide, points: Iterable[str], share: Share = WHOLE
) -> ComparedGroups:
    """Everything that an environment has changed or may have; `points` are its mount points.

    `directories`, `share`: see upper.walk. Of a deleted or hidden tree only the outermost directory is reported. Raises
    OSError.
    """
    found = ComparedGroups()
    merged = dict.fromkeys(points, False)  # directories that the host has too; whether the environment's hides it
    passed: set[str] = set()  # directories that are not looked at
    for directory, here in directories:
        if directory in passed:
            passed.update(here)
            continue
        shadowed = host.shadowed_of(here)
        passed |= shadowed
        if directory in merged:
            _compare_merged(directory, here, host, merged, shadowed, found)
            if merged[directory]:
                for row in _hidden(directory, here, host, share):
                    found.add(row)
            continue
        for path, entry in here.items():  # nothing to compare with
            if entry.is_ours and entry.kind != "whiteout" and not (shadowed and path in shadowed):
                found.add_new(path, entry.status)
    return found


def _compare_merged(
    directory: str,
    here: Mapping[str, UpperEntry],
    host: HostSide,
    merged: dict[str, bool],
    shadowed: Collection[str],
    found: ComparedGroups,
) -> None:
    """One directory that both sides have."""
    for path, entry in here.items():
        if path in shadowed or not (entry.is_ours or entry.kind == "directory"):
            continue
        old = host.look(path)
        if entry.is_ours:
            with contextlib.suppress(FileNotFoundError):  # it has vanished meanwhile
                if compared := _found(path, entry, old, host.mirrored):
                    found.add(compared)
        if entry.kind == "directory" and old is not None and old.facts.type == "directory":
            merged[path] = entry.opaque or merged[directory]


def _found(path: str, entry: UpperEntry, old: HostFile | None, mirrored: bool) -> ComparedPath | None:
    if entry.kind == "whiteout":
        return ComparedPath(path, old.facts, None, of_host=old.of_host) if old is not None else None
    new = facts_of(entry.status)
    if old is None:
        return ComparedPath(path, None, new)
    if old.facts.type != new.type:
        return ComparedPath(path, old.facts, new, of_host=old.of_host)
    same = _same_content(entry, old, new)
    return ComparedPath(path, old.facts, new, same, _same_attributes(entry, old, new, mirrored), old.of_host)


def _hidden(directory: str, here: Container[str], host: HostSide, share: Share) -> Iterator[ComparedPath]:
    for name in host.names(directory):
        path = f"{directory}/{name}"
        if share.has(name) and path not in here and not host.is_shadowed(path) and (old := host.look(path)) is not None:
            yield ComparedPath(path, old.facts, None, of_host=old.of_host)


def _same_content(entry: UpperEntry, old: HostFile, new: Facts) -> bool:
    if new.type == "symlink":
        return entry.link() == os.readlink(old.place)
    if new.type == "device":
        return entry.status.st_rdev == os.lstat(old.place).st_rdev
    if new.type != "file":
        return True
    if new.size != old.facts.size:
        return False
    if old.content is None:
        return view.same_content(entry.stream(), old.stream())
    return entry.get(new.size) == old.content


def _same_attributes(entry: UpperEntry, old: HostFile, new: Facts, mirrored: bool) -> bool:
    """A base has none of the host's: what of these is missing says nothing then."""
    if new.type not in ("file", "directory"):
        return True
    own = view.attributes(entry.place)
    own.pop(_LABEL, None)
    if not own and mirrored:
        return True
    theirs: Mapping[str, bytes] = {}
    with contextlib.suppress(OSError):
        theirs = view.attributes(old.place) if old.of_host else {}
    return all(theirs.get(name) == value for name, value in own.items()) and (
        mirrored or own.keys() == theirs.keys() - {_LABEL}
    )


def real(path: str, own: Own) -> str:
    """A path of the environment without symbolic links before its last part, followed as they are there."""
    left = [part for part in os.path.normpath(path).split("/") if part]
    found, links = "", 0
    while left:
        part = left.pop(0)
        target = own.link(f"{found}/{part}") if left and links < view.LINKS else None
        if target is None:
            found = f"{found}/{part}"
        else:
            links += 1
            whole = os.path.normpath(os.path.join(found or "/", target))
            left, found = [*(name for name in whole.split("/") if name), *left], ""
    return found or "/"


def exists(path: str, upper: Upper, own: Own) -> bool:
    """Whether the environment has something at a real path."""
    entry = upper.get(path)
    return path == "/" or (entry.kind != "whiteout" if entry is not None else own.has(path))


def content(entry: UpperEntry, limit: int) -> bytes | None:
    """The content or target of a file or symbolic link of an environment, up to a limit; None for other types."""
    if stat.S_ISLNK(entry.status.st_mode):
        return os.fsencode(entry.link())
    if not stat.S_ISREG(entry.status.st_mode):
        return None
    with entry.stream() as stream:
        return stream.read(limit)


def content_of_host(seen: HostFile, limit: int) -> bytes | None:
    """The same for the host as environments see it."""
    if seen.facts.type == "symlink":
        return os.fsencode(os.readlink(seen.place))
    if seen.facts.type != "file" or seen.content is not None:
        return seen.content
    with seen.stream() as stream:
        return stream.read(limit)
