"""The files of a base: what mirror.py needs to know of each, as plain tuples, and those that are not the host's.

A hundred thousand of them go through a pipe.
"""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from typing import Literal, TypeAlias


Kind = str
DIRECTORY, COPY, STUB, SYMLINK, FIFO, LINK, BIG, ATTRIBUTES = "d", "c", "s", "l", "p", "h", "b", "a"

# How the data of larger files gets into a base: named by a stub, copied (where the file system can, shared), or left
# out, because the host's own / lies below the base.
Data: TypeAlias = "Literal['stub', 'copy', 'host']"

# (kind, name, mode, uid, gid, mtime_ns, payload): uid and gid as they shall be inside; the payload is the content of
# a copy, (size, redirect) of a stub, the target of a symlink, the first path of a hard link (relative to the layer),
# the extended attributes (name: value) of the file that was told of before, or of the directory itself, named ".".
Record: TypeAlias = "tuple[Kind, str, int, int, int, int, object]"


@dataclass(frozen=True)
class Addition:
    """A file that environments have in addition to the host's; `copy_of` takes a host file's content.

    `version`: size and time of that file, to compare additions without reading it.
    """

    path: str
    mode: int
    content: str = ""
    copy_of: str | None = None
    version: tuple[int, int] | None = None
