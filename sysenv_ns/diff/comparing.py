"""Compares an environment's upper directories with the host, from within a namespace of its id map; changes nothing.

What is there is looked at as the user, who keeps the right to read what the host lets him read, with the capabilities
of the namespace over all that is the environment's. Owners of host files cannot be seen from there.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sysenv_ns import policy
from sysenv_ns.diff.changes import Facts, FileType
from sysenv_ns.host import standins
from sysenv_ns.host.records import Addition
from sysenv_ns.kernel import mountinfo
from sysenv_ns.upper import view
from sysenv_ns.upper.view import Entry, Own, Upper

_TYPES: dict[int, FileType] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_LABEL = "security.selinux"  # the system's policy gives it by itself


class Found(NamedTuple):
    """Both sides of a path at which an environment has something, or hides it; for changes.compare."""

    path: str
    old: Facts | None  # a host file's owner is still to be looked up
    new: Facts | None
    same_content: bool = True
    same_attributes: bool = True
    of_host: bool = True  # `old` is a file of the host, not of what environments have in addition


@dataclass(frozen=True)
class Seen:
    """Something of the host as environments see it; `content` is what they see instead of the file's own."""

    facts: Facts
    place: str
    content: bytes | None = None
    of_host: bool = True


class Host:
    """What an environment without changes has, as the host is today."""

    def __init__(self, added: Iterable[Addition], mirrored: bool, shadowed: Iterable[str]) -> None:
        """`mirrored`: by a base, which leaves some out; `shadowed`: what is the host's own inside, or nobody's."""
        self._added = {f"/{addition.path}": addition for addition in added}
        self._parents = {parent for path in self._added for parent in mountinfo.ancestors(path)}
        self._shadowed = frozenset(shadowed)
        self.mirrored = mirrored

    def is_shadowed(self, path: str) -> bool:
        """Whether something else is mounted over a path, and hides what the environment has there."""
        return path in self._shadowed

    def is_added(self, path: str) -> bool:
        """Whether environments have something there that the host has not, or in place of the host's."""
        return path in self._added

    def covers(self, path: str) -> bool:
        """The same as is_shadowed for a path of which the parents may be, too."""
        return self.is_shadowed(path) or any(map(self.is_shadowed, mountinfo.ancestors(path)))

    def look(self, path: str) -> Seen | None:
        """What is at a path whose parents are directories; None for nothing."""
        if path in self._added:
            return _addition(self._added[path], path)
        try:
            status = os.lstat(path)
        except OSError:
            return Seen(Facts("directory", 0o755, 0, 0), path, None, False) if path in self._parents else None
        facts = facts_of(status)
        if self.mirrored and (path in policy.LEFT_OUT or facts.type in ("socket", "device")):
            return None
        content = self._instead(path, status) if self.mirrored and facts.type == "file" else None
        return Seen(facts if content is None else facts._replace(size=len(content)), path, content)

    def _instead(self, path: str, status: os.stat_result) -> bytes | None:
        """What the base has in place of a file's content (Walk in survey.py)."""
        if not (status.st_mode & stat.S_IROTH) and not os.access(path, os.R_OK):
            return standins.content(path) or b""
        too_long = status.st_size > policy.LOG_LIMIT and mountinfo.is_below(path, policy.LOGS)
        return b"" if too_long else None

    def names(self, path: str) -> list[str]:
        """What is in a directory, as far as it can be read."""
        with contextlib.suppress(OSError):
            return sorted(os.listdir(path))
        return []


def _addition(addition: Addition, path: str) -> Seen:
    if addition.copy_of:
        size = os.stat(addition.copy_of).st_size
        return Seen(Facts("file", addition.mode, 0, 0, size), addition.copy_of, None, False)
    content = addition.content.encode("utf-8", "surrogateescape")
    return Seen(Facts("file", addition.mode, 0, 0, len(content)), path, content, False)


def facts_of(status: os.stat_result) -> Facts:
    """What stat(2) says."""
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), "device")
    # The mode of a symbolic link says nothing, and file systems give it different ones.
    mode = 0o777 if kind == "symlink" else stat.S_IMODE(status.st_mode)
    return Facts(kind, mode, status.st_uid, status.st_gid, status.st_size if kind == "file" else 0)


def compare(upper: Upper, host: Host, points: Iterable[str]) -> Iterator[Found]:
    """Everything that an environment has changed or may have, parents first; `points` are its mount points.

    Of a directory that is gone, or hidden with all that is in it, only the outermost is told. Raises OSError.
    """
    merged = dict.fromkeys(points, False)  # directories that the host has too; whether the environment's hides it
    passed: set[str] = set()
    for path, entry in upper.entries.items():
        parent = path.rpartition("/")[0]
        if parent in passed or host.is_shadowed(path):
            passed.add(path)
            continue
        old = host.look(path) if parent in merged else None
        with contextlib.suppress(FileNotFoundError):  # it has vanished meanwhile
            if found := _found(path, entry, old, host.mirrored):
                yield found
        if entry.kind == "directory" and old is not None and old.facts.type == "directory":
            merged[path] = entry.opaque or merged[parent]
            if merged[path]:
                yield from _hidden(path, upper, host)


def _found(path: str, entry: Entry, old: Seen | None, mirrored: bool) -> Found | None:
    if entry.kind == "whiteout":
        return Found(path, old.facts, None, of_host=old.of_host) if old is not None else None
    new = facts_of(entry.status)
    if old is None:
        return Found(path, None, new)
    if old.facts.type != new.type:
        return Found(path, old.facts, new, of_host=old.of_host)
    same = _same_content(entry, old, new)
    return Found(path, old.facts, new, same, _same_attributes(entry, old, new, mirrored), old.of_host)


def _hidden(directory: str, upper: Upper, host: Host) -> Iterator[Found]:
    for name in host.names(directory):
        path = f"{directory}/{name}"
        if upper.get(path) is None and not host.is_shadowed(path) and (old := host.look(path)) is not None:
            yield Found(path, old.facts, None, of_host=old.of_host)


def _same_content(entry: Entry, old: Seen, new: Facts) -> bool:
    if new.type == "symlink":
        return os.readlink(entry.place) == os.readlink(old.place)
    if new.type == "device":
        return entry.status.st_rdev == os.lstat(old.place).st_rdev
    if new.type != "file":
        return True
    if new.size != old.facts.size:
        return False
    if old.content is None:
        return view.same_content(entry.place, old.place)
    with open(entry.place, "rb") as stream:
        return stream.read() == old.content


def _same_attributes(entry: Entry, old: Seen, new: Facts, mirrored: bool) -> bool:
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


def content(place: str, facts: Facts, limit: int) -> bytes | None:
    """What a file or a symbolic link holds; None for what is longer than `limit`, or neither."""
    if facts.type == "symlink":
        return os.fsencode(os.readlink(place))
    if facts.type != "file" or facts.size > limit:
        return None
    with open(place, "rb") as stream:
        return stream.read(limit)
