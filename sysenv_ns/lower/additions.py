"""The files that environments have in addition to the host's, as batches for a writer; and written by this process."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.files import reader
from sysenv_ns.host.base_files import COPY, DIRECTORY, Addition, Record
from sysenv_ns.lower import mirror
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

# A directory (relative to the layer), and what is in it.
AddedBatch: TypeAlias = "tuple[str, Record, list[Record]]"


def batches(added: Iterable[Addition]) -> Iterator[AddedBatch]:
    """The additions with the directories above them, which are like the host's if the host has them. Raises OSError."""
    by_directory: dict[str, list[Record]] = {}
    for addition in added:
        content = (
            reader.read(addition.copy_of, follow=True)
            if addition.copy_of
            else addition.content.encode("utf-8", "surrogateescape")
        )
        holder, _, name = addition.path.rpartition("/")
        parts = holder.split("/")
        for parent in ("", *("/".join(parts[: end + 1]) for end in range(len(parts)))):
            by_directory.setdefault(parent, [])
        by_directory[holder].append((COPY, name, addition.mode, 0, 0, 0, content))
    for directory, entries in sorted(by_directory.items()):
        mode, mtime = _directory_like(f"/{directory}")
        yield directory, (DIRECTORY, "", mode, 0, 0, mtime, None), entries


def _directory_like(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:  # the host has none
        return 0o755, 0
    return status.st_mode & 0o7777, status.st_mtime_ns


def write(added: Iterable[AddedBatch], target: Path) -> None:
    """Write them below `target`, durably; for root of the namespace. Raises OSError."""
    os.umask(0)  # modes come from the host
    writer = mirror.Writer(str(target))
    for batch in added:
        writer.add(*batch)
    writer.finish()
    writer.sync(many=False)
