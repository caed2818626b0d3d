"""Walks over the mounted root of an environment and yields what goes into its image, in order of names.

It looks with lstat(2) at one place after the other and follows no links; of the environment nothing is executed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sysenv_ns.files import reader
from sysenv_ns.files.upper import Upper, UpperEntry
from sysenv_ns.host import standins
from sysenv_ns.oci import contents
from sysenv_ns.oci.contents import ImageRules

# What of the host shows in a directory: what is there, nothing because it is private, nothing because it is hidden.
_Host = Literal["shown", "private", "none"]


class ImageMember(NamedTuple):
    """Something for the image: its path there, and what it is; `content` is what it holds instead of its own."""

    path: str
    status: os.stat_result
    place: str
    content: bytes | None = None
    owner: tuple[int, int] | None = None  # another one than its own


@dataclass
class Report:
    """What the image does not have of what is there, or what it should perhaps not have."""

    withheld: list[str] = field(default_factory=list)  # of the host, as not everybody may read it
    left_out: list[str] = field(default_factory=list)  # as no layer can hold its name
    revealed: list[str] = field(default_factory=list)  # it has it: the environment changed a private file of the host


class ImageWalk:
    """The members of one environment's image. Nobody else may be changing its root meanwhile."""

    def __init__(self, root: str, upper: Upper, rules: ImageRules) -> None:
        """`root`: where it is mounted, as seen from this process, whose own root is the host's."""
        self._root = root
        self._upper = upper
        self._rules = rules
        self.report = Report()

    def members(self) -> Iterator[ImageMember]:
        """Directories before what is in them. Raises OSError."""
        yield from self._directory("", "shown")

    def has_changed(self, path: str) -> bool:
        """Whether the environment has changed something, or something below it."""
        return self._upper.get(path) is not None

    def _directory(self, path: str, host: _Host) -> Iterator[ImageMember]:
        for name in sorted(os.listdir(f"{self._root}{path}/"), key=os.fsencode):
            child = f"{path}/{name}"
            if contents.is_whiteout(name):
                self.report.left_out.append(child)
                continue
            entry = self._upper.get(child)
            if entry is None and host != "shown":
                continue
            place = f"{self._root}{child}"
            status = os.lstat(place)
            if self._rules.is_absent(child, status.st_mode, entry is None):
                continue
            if stat.S_ISDIR(status.st_mode):
                yield ImageMember(child, status, place, b"" if child in self._rules.hollow else None)
                if child not in self._rules.hollow:
                    yield from self._directory(child, self._below(child, status, entry, host))
            else:
                yield from self._file(child, status, place, entry is None)
                if entry is not None and _was_private(child, host):
                    self.report.revealed.append(child)

    def _below(self, path: str, status: os.stat_result, entry: UpperEntry | None, host: _Host) -> _Host:
        if host == "none" or (entry is not None and entry.opaque):
            return "none"
        if host == "shown":
            mode = status.st_mode if entry is None else _mode_on_host(path)
            if mode is None or not stat.S_ISDIR(mode):
                return "none"
            if not contents.is_open(mode):
                self.report.withheld.append(f"{path}/")
                return "private"
        return host

    def _file(self, path: str, status: os.stat_result, place: str, of_host: bool) -> Iterator[ImageMember]:
        added = self._rules.additions.get(path)
        live = of_host and stat.S_ISLNK(status.st_mode) and _leads_to_host(place)
        if live or (added is not None and (of_host or _holds(place, added))):
            yield from self._instead_of_addition(path)
        elif self._rules.is_empty(path, of_host):
            yield ImageMember(path, status, place, b"")
        elif of_host and stat.S_ISREG(status.st_mode) and not contents.is_open(status.st_mode):
            self.report.withheld.append(path)
            yield ImageMember(path, status, place, standins.content(path) or b"")
        else:
            yield ImageMember(path, status, place)

    def _instead_of_addition(self, path: str) -> Iterator[ImageMember]:
        """What the host has where the tool has put something else."""
        try:
            status = os.lstat(path)
        except OSError:  # nothing, usually
            return
        if contents.is_open(status.st_mode) and not stat.S_ISSOCK(status.st_mode):
            # Root's, as all that the tool replaces is: seen from within the namespace it is nobody's.
            yield ImageMember(path, status, path, owner=(0, 0))


def _leads_to_host(place: str) -> bool:
    """Whether a link is one that the base has in place of something of the host that is live."""
    return "/run/host/" in f"/{os.readlink(place).lstrip('./')}"


def _was_private(path: str, host: _Host) -> bool:
    """Whether the host has a regular file there that this user may read, but not everybody."""
    mode = _mode_on_host(path)
    if mode is None or not stat.S_ISREG(mode) or host == "none":
        return False
    return (host == "private" or not contents.is_open(mode)) and os.access(path, os.R_OK)


def _mode_on_host(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return None


def _holds(place: str, content: bytes) -> bool:
    """Whether a regular file has this content."""
    status = os.lstat(place)
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
        return False
    return reader.get(place, len(content)) == content
