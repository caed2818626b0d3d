"""Carries batches from outside to a writer inside the namespace; keeps no books."""

from __future__ import annotations

import marshal
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import NoneType
from typing import BinaryIO

from sysenv_ns.files import reader
from sysenv_ns.host.records import COPY, DIRECTORY, Addition, Record
from sysenv_ns.host.walk import Batch
from sysenv_ns.kernel import children, namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import mirror


def write(
    batches: Iterable[Batch],
    target: Path,
    id_map: IdMap | None,
    many: bool,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Write batches below `target` as root of a namespace with this map, durably.

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


def additions(added: Iterable[Addition]) -> Iterator[Batch]:
    """The additions with the directories above them, which are like the host's if the host has them."""
    by_directory: dict[str, list[Record]] = {}
    for addition in added:
        path = Path(addition.path)
        content = (
            reader.read(addition.copy_of, follow=True)
            if addition.copy_of
            else addition.content.encode("utf-8", "surrogateescape")
        )
        for parent in path.parents:
            by_directory.setdefault("" if str(parent) == "." else str(parent), [])
        by_directory[str(path.parent)].append((COPY, path.name, addition.mode, 0, 0, 0, content))
    for directory, entries in sorted(by_directory.items()):
        mode, mtime = _directory_like(f"/{directory}")
        yield Batch(directory, (DIRECTORY, "", mode, 0, 0, mtime, None), entries)


def _directory_like(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:  # the host has none
        return 0o755, 0
    return status.st_mode & 0o7777, status.st_mtime_ns
