"""The result of a walk over a host tree: the data-only lowers that its stubs need, and signatures of its files."""

from __future__ import annotations

import os
import stat

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.host import layout
from sysenv_ns.host.layout import Tree
from sysenv_ns.host.signs import Signature, signature
from sysenv_ns.kernel import mountinfo
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet


class Index:
    """One tree: the data that later shows whether its mirror is still right, and which part is not."""

    def __init__(self, earlier_roots: Iterable[str] = (), surplus_roots: AbstractSet[str] = frozenset()) -> None:
        self.roots: list[str] = []
        self.watched: dict[str, Signature | None] = {}
        self.directories: dict[str, Signature] = {}  # outer ones before inner ones
        self.stubs: dict[str, Signature] = {}
        self.copied: dict[str, Signature] = {}  # everything else that has been mirrored
        self.clashing: set[str] = set()  # those of them that another data-only lower keeps from being stubs
        self.left_out: list[str] = []
        self.unreadable: list[str] = []
        self._searched = list(earlier_roots)
        self._surplus = surplus_roots
        self._names: dict[str, frozenset[str]] = {}

    def entries(self) -> Iterator[tuple[str, Signature]]:
        """All paths that are not directories."""
        yield from self.stubs.items()
        yield from self.copied.items()

    def keep(self, path: str, earlier: Index) -> None:
        """Copy what an earlier walk saw of a file."""
        if path in earlier.stubs:
            self.stubs[path] = earlier.stubs[path]
        else:
            self.copied[path] = earlier.copied[path]
        if path in earlier.clashing:
            self.clashing.add(path)
        if path in earlier.watched:
            self.watched[path] = earlier.watched[path]

    def data_root(self, directory: str, tree: Tree) -> str | None:
        """The data-only lower that serves the files of a directory; None if they must be copied."""
        if any(directory == path or mountinfo.is_below(directory, path) for path in tree.copied):
            return None
        root = layout.data_root(directory, tree.blocked)
        return None if root in self._surplus else root

    def use(self, root: str) -> None:
        """Note that a stub of this tree is served by `root`."""
        if root not in self.roots:
            self.roots.append(root)
        if root not in self._searched:
            self._searched.append(root)

    def clashes(self, root: str, relative: str) -> bool:
        """Whether the kernel, searching the data-only lowers in order, would find another file at this path first."""
        first = relative.partition("/")[0]
        for other in self._searched:
            if other == root:
                return False
            if first in self._listing(other) and _is_regular(f"{other}/{relative}"):
                return True
        return False

    def _listing(self, root: str) -> frozenset[str]:
        if root not in self._names:
            self._names[root] = frozenset(os.listdir(root))
        return self._names[root]


@dataclass(frozen=True)
class Again:
    """Which part of a tree has to be mirrored again (see refresh.py)."""

    earlier: Index
    directories: Mapping[str, os.stat_result]  # those that are still there, outer ones before inner ones
    depths: Mapping[str, int]
    changed: AbstractSet[str]  # the directories to be read
    forced: AbstractSet[str] = frozenset()  # what in them is mirrored anew although it is as it was

    def holds(self, path: str, status: os.stat_result) -> bool:
        """Whether a file is unchanged."""
        known = self.earlier.stubs.get(path) or self.earlier.copied.get(path)
        return path not in self.forced and known == signature(status)


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def holder(path: str) -> str:
    """The directory that a path is in. Not os.path.dirname, which takes three times as long for a hundred thousand."""
    return path.rpartition("/")[0] or "/"
