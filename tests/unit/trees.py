"""Walks over small trees, and mirrors of them."""

from __future__ import annotations

import io
import marshal
import os
from collections.abc import Callable
from pathlib import Path

from sysenv_ns import policy
from sysenv_ns.host.index import Index
from sysenv_ns.host.layout import Tree
from sysenv_ns.host.walk import Batch, Walk
from sysenv_ns.kernel import children, idmap, namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower.mirror import Writer

from .samples import SINGLE

NOBODY = 65534


def tree(path: Path, *, stops: tuple[Path, ...] = (), stubs: bool = True) -> Tree:
    """The tree at `path`, as if something were mounted beside it; without `stubs` also below it."""
    blocked = {str(parent) for parent in path.parents}
    if not stubs:
        blocked |= {str(path), *(str(directory) for directory in path.rglob("*"))}
    return Tree(str(path), policy.OTHER_TREES, frozenset(str(stop) for stop in stops), frozenset(blocked))


class Mirror:
    """Walks a tree; `write` makes its mirror below a directory and returns where the tree is there."""

    def __init__(self, source: Tree, id_map: IdMap = SINGLE) -> None:
        self.index = Index(())
        self.progress: list[float] = []
        self._source = source.path
        walk = Walk(source, id_map, "stub", self.index, self.progress.append)
        self.batches: list[Batch] = list(walk.batches())

    def write(self, target: Path) -> Path:
        """In a child: the writer changes the umask and the current directory of its process, and has to be root."""
        content = b"".join(marshal.dumps(tuple(batch)) for batch in self.batches)  # type: ignore[arg-type]
        stream = io.BytesIO(content + marshal.dumps(None))
        target.mkdir()
        id_map = None if os.geteuid() == 0 else idmap.single(os.getuid(), os.getgid())
        namespace.run_inside(id_map, lambda: Writer(str(target)).run(stream), "test-writer")
        return target / self._source[1:]


def as_ordinary_user(function: Callable[[], object]) -> object:
    """The result of `function` in a child that is not root, so that permissions count."""

    def inside() -> object:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        return function()

    return children.call(inside, object, "test-user")
