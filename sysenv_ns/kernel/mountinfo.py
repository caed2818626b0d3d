"""Parses /proc/self/mountinfo (proc_pid_mountinfo(5)); decides nothing about what to mount."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

_OCTAL = frozenset(b"01234567")


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
    super_options: tuple[str, ...] = ()  # of the file system, not of this mount of it


def unescape(field: bytes) -> str:
    r"""Undo the kernel's \ooo escapes (space, tab, newline, backslash, #)."""
    first, *escaped = field.split(b"\\")
    return b"".join((first, *map(_unescaped, escaped))).decode("utf-8", "surrogateescape")


def _unescaped(part: bytes) -> bytes:
    """What a backslash and this mean."""
    if len(part) >= 3 and _OCTAL.issuperset(part[:3]) and part < b"4":
        return bytes([int(part[:3], 8)]) + part[3:]
    return b"\\" + part


def parse(text: bytes) -> tuple[Mount, ...]:
    """The mounts of a mountinfo file in the kernel's order. Raises ValueError for an invalid line."""
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
            super_options=tuple(unescape(b"".join(fields[separator + 3 : separator + 4])).split(",")),
        )
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a mountinfo line: {line!r}") from error


def read(pid: int | str = "self") -> tuple[Mount, ...]:
    """The mount table of a process. Raises OSError."""
    return parse(Path(f"/proc/{pid}/mountinfo").read_bytes())


def holder(descriptor: int, itself: int | None = None) -> int:
    """The number of the mount that an open file lies on. Raises OSError.

    `itself`: this process's directory in /proc, for who has no /proc at its root.
    """
    name = f"/proc/self/fdinfo/{descriptor}" if itself is None else f"fdinfo/{descriptor}"
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=itself), "rb") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith(b"mnt_id:"))


def is_below(path: str, directory: str) -> bool:
    """Whether `path` lies strictly below `directory` (both absolute and normal)."""
    return path != directory and path.startswith(directory.rstrip("/") + "/")


def ancestors(path: str) -> Iterator[str]:
    """The directories above an absolute path, innermost first."""
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def visible(mounts: Sequence[Mount]) -> tuple[Mount, ...]:
    """The mounts that paths can reach: without those covered by another mount, on the same point or above."""
    by_id = {mount.mount_id: mount for mount in mounts}
    taken = {(m.parent_id, m.point) for m in mounts if m.parent_id != m.mount_id}
    return tuple(m for m in mounts if (m.mount_id, m.point) not in taken and _is_reachable(m, by_id, taken))


def _is_reachable(mount: Mount, by_id: Mapping[int, Mount], taken: Container[tuple[int, str]]) -> bool:
    """Whether no later mount covers a directory above this one, or above one that it is mounted on."""
    # By the parents: the table's order, that of creation, says nothing of a mount that has been moved.
    while not any((mount.parent_id, directory) in taken for directory in ancestors(mount.point)):
        parent = by_id.get(mount.parent_id)
        if parent is None or parent is mount:
            return True
        mount = parent
    return False


def containing(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The visible mount that holds `path`: the one with the longest mount point."""
    holders = [m for m in mounts if m.point == path or is_below(path, m.point)]
    return max(holders, key=lambda mount: len(mount.point), default=None)
