"""Parses /proc/self/mountinfo (proc_pid_mountinfo(5)); decides nothing about what to mount."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of the mount table; paths are unescaped and undecodable bytes are surrogates."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    point: str
    options: tuple[str, ...]
    fstype: str
    source: str


def unescape(field: bytes) -> str:
    r"""Undo the kernel's \ooo escapes (space, tab, newline, backslash, #)."""
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field).decode("utf-8", "surrogateescape")


def parse(text: bytes) -> tuple[Mount, ...]:
    """The mounts of a mountinfo file in the kernel's order. Raises ValueError on a line that is not one."""
    return tuple(_parse_line(line) for line in text.split(b"\n") if line)


def _parse_line(line: bytes) -> Mount:
    fields = line.split(b" ")
    try:
        separator = fields.index(b"-", 6)
        return Mount(
            mount_id=int(fields[0]),
            parent_id=int(fields[1]),
            device=fields[2].decode(),
            root=unescape(fields[3]),
            point=unescape(fields[4]),
            options=tuple(fields[5].decode().split(",")),
            fstype=unescape(fields[separator + 1]),
            source=unescape(fields[separator + 2]),
        )
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a mountinfo line: {line!r}") from error


def read(pid: int | str = "self") -> tuple[Mount, ...]:
    """The mount table of a process. Raises OSError."""
    return parse(Path(f"/proc/{pid}/mountinfo").read_bytes())


def is_below(path: str, directory: str) -> bool:
    """Whether `path` lies strictly below `directory` (both absolute and normal)."""
    return path != directory and path.startswith(directory.rstrip("/") + "/")


def visible(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """The mounts that a path can reach: without those that a later mount covers."""
    parents = {mount.mount_id: mount.parent_id for mount in mounts}
    shown: list[Mount] = []
    for mount in mounts:
        shown = [m for m in shown if not _covers(mount, m, parents)]
        shown.append(mount)
    return tuple(shown)


def _covers(later: Mount, earlier: Mount, parents: dict[int, int]) -> bool:
    if earlier.point != later.point and not is_below(earlier.point, later.point):
        return False
    # The table is in the order of creation, not of nesting: a mount made first may have been moved onto the later one.
    ancestor: int | None = earlier.mount_id
    while ancestor is not None:
        if ancestor == later.mount_id:
            return False
        following = parents.get(ancestor)
        ancestor = following if following != ancestor else None
    return True


def containing(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The visible mount that holds `path`: the one with the longest mount point."""
    holders = [m for m in mounts if m.point == path or is_below(path, m.point)]
    return max(holders, key=lambda mount: len(mount.point), default=None)
