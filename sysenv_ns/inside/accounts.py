"""The users and groups of the environment that this process is in, read from its files, without its libraries."""

from __future__ import annotations

from sysenv_ns import documents
from sysenv_ns.files import reader

_PASSWD, _GROUP = "/etc/passwd", "/etc/group"


def users() -> dict[str, int]:
    """The numbers of the users, by their names."""
    return {row[0]: int(row[2]) for row in _rows(_PASSWD)}


def shells() -> frozenset[tuple[int, str]]:
    """The numbers of the users with their login shells."""
    return frozenset((int(row[2]), row[6]) for row in _rows(_PASSWD) if len(row) > 6)


def groups() -> dict[str, int]:
    """The numbers of the groups, by their names."""
    return {row[0]: int(row[2]) for row in _rows(_GROUP)}


def members() -> list[tuple[str, int, list[str]]]:
    """The groups: name, number, and the names of the users that are in them beside those whose own one it is."""
    return [(row[0], int(row[2]), row[3].split(",")) for row in _rows(_GROUP) if len(row) > 3]


def _rows(path: str) -> list[list[str]]:
    """The lines that are entries; none where the file cannot be read, which programs inside will then tell."""
    try:
        text = reader.read(path, follow=True).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    rows = (line.split(":") for line in text.splitlines() if "\0" not in line)
    return [row for row in rows if len(row) > 2 and documents.decimal(row[2]) is not None]
