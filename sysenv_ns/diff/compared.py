"""PURE: both sides of paths, by the hundred thousand: grouped, as JSON, checks and loops take least time so."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sysenv_ns.diff import changes
from sysenv_ns.diff.changes import Facts


class ComparedPath(NamedTuple):
    """Both sides of a path where an environment has something, or hides it; for changes.compare."""

    path: str
    old: Facts | None  # a host file's owner is still to be looked up
    new: Facts | None
    same_content: bool = True
    same_attributes: bool = True
    of_host: bool = True  # `old` is a file of the host, not of what environments have in addition


class ComparedGroup(NamedTuple):
    """Compared paths that are alike, but for the sizes of files."""

    alike: ComparedPath  # without a path, and with the size 0
    paths: tuple[str, ...]
    before: tuple[int, ...]  # the sizes on the host
    after: tuple[int, ...]

    def rows(self) -> Iterator[ComparedPath]:
        """Each of them."""
        _, old, new, *rest = self.alike
        for path, before, after in zip(self.paths, self.before, self.after, strict=True):
            yield ComparedPath(path, old and old._replace(size=before), new and new._replace(size=after), *rest)


class ComparedGroups:
    """Compared paths as they are found."""

    def __init__(self) -> None:
        self._groups: dict[tuple[object, ...], tuple[ComparedPath, list[str], list[int], list[int]]] = {}

    def add(self, row: ComparedPath) -> None:
        """Add a path."""
        path, old, new, *rest = row
        key = (old and old[:-1], new and new[:-1], *rest)
        if (group := self._groups.get(key)) is None:
            alike = ComparedPath("", old and old._replace(size=0), new and new._replace(size=0), *rest)
            group = self._groups[key] = (alike, [], [], [])
        group[1].append(path)
        group[2].append(old.size if old else 0)
        group[3].append(new.size if new else 0)

    def add_new(self, path: str, status: os.stat_result) -> None:
        """Add a path where the environment has something, and the host nothing."""
        mode = status.st_mode
        key = (mode, status.st_uid, status.st_gid)
        if (group := self._groups.get(key)) is None:
            alike = ComparedPath("", None, changes.facts_of(status)._replace(size=0))
            group = self._groups[key] = (alike, [], [], [])
        group[1].append(path)
        group[2].append(0)
        group[3].append(status.st_size if stat.S_ISREG(mode) else 0)

    def result(self, is_wanted: Callable[[str], bool] | None = None) -> tuple[ComparedGroup, ...]:
        """All, or those with paths that are wanted, in the order in which the first of each group was found."""
        if is_wanted is None:
            return tuple(ComparedGroup(row, tuple(a), tuple(b), tuple(c)) for row, a, b, c in self._groups.values())
        found = []
        for alike, *columns in self._groups.values():
            if rows := [row for row in zip(*columns, strict=True) if is_wanted(row[0])]:
                found.append(ComparedGroup(alike, *zip(*rows, strict=True)))
        return tuple(found)
