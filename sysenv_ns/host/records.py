"""What mirror.py is told of each file, as plain tuples: a hundred thousand of them go through a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = str
DIRECTORY, COPY, STUB, SYMLINK, FIFO, LINK, BIG = "d", "c", "s", "l", "p", "h", "b"

# How the data of larger files gets into a base: named by a stub, copied (where the file system can, shared), or left
# out, because the host's own / lies below the base.
Data = Literal["stub", "copy", "host"]

# (kind, name, mode, uid, gid, mtime_ns, payload): uid and gid as they shall be inside; the payload is the content of
# a copy, (size, redirect) of a stub, the target of a symlink, the first path of a hard link (relative to the layer).
Record = tuple[Kind, str, int, int, int, int, object]


class Batch(NamedTuple):
    """A directory (path relative to the layer, "" for its root) and everything in it but its subdirectories.

    `kept`: it is there already; of what is in it these names stay, the rest is removed. None: nothing is removed.
    """

    directory: str
    record: Record
    entries: list[Record]
    kept: list[str] | None = None


@dataclass(frozen=True)
class Addition:
    """A file that environments have on top of the host's; `copy_of` takes a host file's content."""

    path: str
    mode: int
    content: str = ""
    copy_of: str | None = None
