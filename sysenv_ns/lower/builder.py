"""Carries batches from outside to a writer inside the namespace; keeps no books."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType
from typing import BinaryIO

from sysenv_ns.host.walk import Batch
from sysenv_ns.kernel import children, namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import mirror
from sysenv_ns.lower.additions import AddedBatch


def write(
    batches: Iterable[Batch | AddedBatch],
    target: Path,
    id_map: IdMap | None,
    many: bool,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write batches (of walk.py, or of additions.py) below `target` as root of a namespace with this map, durably.

    `many`: there are very many files; `before` is called there first. Raises OSError, SysenvError.
    """

    def inside(stream: BinaryIO) -> None:
        namespace.enter(id_map)
        namespace.become_root()
        before()
        writer = mirror.Writer(str(target))
        writer.run(stream)
        writer.sync(many)

    def feed(stream: BinaryIO) -> None:
        for batch in batches:
            stream.write(marshal.dumps(tuple(batch)))  # type: ignore[arg-type]
        stream.write(marshal.dumps(None))

    children.fed(inside, NoneType, "sysenv-ns-base", feed)
