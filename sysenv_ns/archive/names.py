"""PURE: the names of an archive's members as a tree, and what may come where; creates no files.

A tree, so that a name takes no more memory than its last part, however long its path is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sysenv_ns.archive.tarball import Damaged, Kind, Member, shown

_ATTRIBUTES = 64 << 20  # bytes of the attributes of all directories, which are kept until all is there
_ATTRIBUTE = 200  # bytes that one takes beside its name and value


@dataclass(slots=True)
class MemberDirectory:
    """A directory: its member, without the name, and its entries so far."""

    member: Member
    inner: dict[bytes, MemberDirectory | Kind] = field(default_factory=dict)


class Names:
    """All members so far. The name of a tree has two parts; each tree begins with a directory."""

    def __init__(self) -> None:
        self._attributes = 0  # bytes
        self._trees = MemberDirectory(Member(b"", "directory"))
        self._last = (b"", self._trees)

    def add(self, member: Member) -> None:
        """Add a member. Raises Damaged if it may not be there."""
        parent, last = _divided(member.name)
        directory = self._parent(parent)
        if directory is None:
            raise Damaged(f"the directory of {shown(member.name)} is missing")
        if last in directory.inner:
            raise Damaged(f"duplicate member {shown(member.name)}")
        if directory is self._trees and member.kind != "directory":
            raise Damaged(f"{shown(member.name)} is not a directory")
        directory.inner[last] = self._directory(member) if member.kind == "directory" else member.kind

    def _directory(self, member: Member) -> MemberDirectory:
        self._attributes += sum(len(key) + len(value) + _ATTRIBUTE for key, value in member.attributes.items())
        if self._attributes > _ATTRIBUTES:
            raise Damaged("its directories have too many attributes")
        return MemberDirectory(member._replace(name=b""))

    def kind(self, name: bytes) -> Kind | None:
        """The entry of that name; None for nothing."""
        found = self._find(name)
        return "directory" if isinstance(found, MemberDirectory) else found

    def directory(self, name: bytes) -> Member | None:
        """A directory, without its name; None if there is none."""
        found = self._find(name)
        return found.member if isinstance(found, MemberDirectory) else None

    def directories(self) -> Iterator[tuple[bytes, Member]]:
        """All directories with their names, inner ones first."""
        levels = [(b"", self._trees, iter(self._trees.inner.items()))]
        while levels:
            name, directory, left = levels[-1]
            for last, inner in left:
                if isinstance(inner, MemberDirectory):
                    levels.append((b"%b/%b" % (name, last) if name else last, inner, iter(inner.inner.items())))
                    break
            else:
                levels.pop()
                if levels:
                    yield name, directory.member

    def _parent(self, name: bytes) -> MemberDirectory | None:
        """The parent directory, usually that of the previous member."""
        if self._last[0] == name:
            return self._last[1]
        found = self._find(name)
        if not isinstance(found, MemberDirectory):
            return None
        self._last = (name, found)
        return found

    def _find(self, name: bytes) -> MemberDirectory | Kind | None:
        found: MemberDirectory | Kind | None = self._trees
        parts = name.split(b"/")
        for part in [b"/".join(parts[:2]), *parts[2:]] if name else ():
            if not isinstance(found, MemberDirectory):
                return None
            found = found.inner.get(part)
        return found


def _divided(name: bytes) -> tuple[bytes, bytes]:
    """The name of the directory that a member is in, and its own; a tree is in the one without a name."""
    parent, _, last = name.rpartition(b"/")
    return (parent, last) if b"/" in parent else (b"", name)
