"""Carries batches from outside to a writer inside the namespace; keeps no books."""

from __future__ import annotations

import marshal
import os
import select
from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType
from typing import BinaryIO

from sysenv_ns import policy
from sysenv_ns.host.walk import Batch
from sysenv_ns.kernel import children, namespace, syscalls
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import mirror
from sysenv_ns.lower.additions import AddedBatch

_PROCESS = "sysenv-ns-base"
_PAUSE = 0.5  # seconds


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

    children.fed(inside, NoneType, _PROCESS, feed)


def write_new(
    batches: Iterable[Batch], target: Path, id_map: IdMap | None, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """The same for very many where nothing is yet: two processes write, as creating files takes most of the time.

    `meanwhile` is called here when all batches have been read, and the disk has still to write.
    """
    last: list[Batch] = []

    def inside(stream: BinaryIO) -> None:
        namespace.enter(id_map)
        namespace.become_root()
        mirror.Writer(str(target)).receive(stream)

    def feed(*streams: BinaryIO) -> None:
        loads = [0] * len(streams)
        for batch in batches:
            data = marshal.dumps(tuple(batch))  # type: ignore[arg-type]
            number = loads.index(min(loads))
            loads[number] += len(batch.entries) + len(data) // policy.BLOCK
            streams[number].write(data)
            last.append(batch._replace(entries=[*filter(mirror.is_last, batch.entries)]))
        for stream in streams:
            stream.write(marshal.dumps(None))
            stream.flush()  # its process is to end beside the other one

    def finish() -> None:
        namespace.become_root()
        writer = mirror.Writer(str(target))
        for batch in last:
            writer.note(batch.directory, batch.record, batch.entries)
        writer.finish()
        writer.sync(many=True)

    def feed_both(_: BinaryIO) -> None:
        children.fed(
            inside,
            NoneType,
            _PROCESS,
            lambda first: children.fed(inside, NoneType, _PROCESS, lambda second: feed(first, second)),
        )

    children.fed(lambda stream: _flush(target.parent, stream), NoneType, _PROCESS, feed_both)
    namespace.look_inside_while(id_map, [finish], NoneType, _PROCESS, meanwhile)


def _flush(directory: Path, stream: BinaryIO) -> None:
    """Let the disk write while files are still created, until the stream ends: at the end nobody else has to work."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    while not select.select([stream], [], [], _PAUSE)[0]:
        syscalls.syncfs(descriptor)
