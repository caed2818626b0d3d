"""Reads the members of an archive and checks each before a file is created from it; makes nothing visible.

A member must be in a directory that came before it, under a new name. So nothing is written through a symbolic
link, over anything, or outside, whatever the names are; placement.py does not follow links either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sysenv_ns.archive import manifest
from sysenv_ns.archive.manifest import LAYERS, ORIGINS, ArchiveManifest
from sysenv_ns.archive.names import Names
from sysenv_ns.archive.placement import Placer
from sysenv_ns.archive.tarball import Damaged, Member, Reader, shown
from sysenv_ns.files.marks import Marks
from sysenv_ns.host.base_files import Addition
from sysenv_ns.kernel.idmap import IdMap

_OF_ORIGINS = ("file", "directory")
_NO_LINK = ("directory", "whiteout", None)  # what has no second name


@dataclass(frozen=True)
class Target:
    """The directory to unpack into (a layer N into layers/N/upper), and the environment that it becomes."""

    directory: Path
    marks: Marks
    id_map: IdMap | None
    prompt: Addition | None  # what tells its name, when that is a new one
    additions: Sequence[Addition]  # what its driver has in the lowest layer


def unpack(read: Callable[[int], bytes], target: Target) -> dict[str, int]:
    """Create the files of a whole archive, read with `read`; returns what was lost, with the number of files.

    Raises Damaged, OSError, SysenvError.
    """
    os.umask(0o077)
    reader = Reader(read)
    found = manifest.read(reader, "it")
    unpacker = _Unpacker(reader, found, target)
    unpacker.run()
    unpacker.complete()
    return dict(unpacker.placer.lost)


class _Unpacker:
    def __init__(self, reader: Reader, found: ArchiveManifest, target: Target) -> None:
        self._reader, self._manifest, self._target = reader, found, target
        self.placer = Placer(target.directory, target.marks, target.id_map)
        self._names = Names()
        trees = ((LAYERS, len(found.layers)), (ORIGINS, found.origins))
        self._trees = {os.fsencode(f"{kind}/{n}"): kind for kind, count in trees for n in range(count)}

    def run(self) -> None:
        """Unpack all members; when it returns, the checksum was right."""
        while member := self._reader.next():
            if member.name == os.fsencode(manifest.END):
                self._check_end(member)
                return
            self._add(member)
        raise Damaged("its end is missing")

    def complete(self) -> None:
        """Add files that the environment needs besides those of the archive; then complete the directories."""
        for number in {chain[-1] for chain in self._chains()}:
            for addition in self._target.additions:
                self._insert(number, addition, _of_host)
        self._show_name()
        self.placer.finish((self._path(name), member) for name, member in self._names.directories())

    def _check_end(self, member: Member) -> None:
        checksum = self._reader.checksum
        if manifest.read_end(self._reader, member) != checksum:
            raise Damaged("checksum mismatch")
        if self._reader.next() is not None:
            raise Damaged("data after its end")
        if missing := [tree for tree in self._trees if self._names.kind(tree) is None]:
            raise Damaged(f"{shown(missing[0])} is missing")

    def _add(self, member: Member) -> None:
        if self._tree(member) == ORIGINS:
            mode = 0o755 if member.kind == "directory" else 0o600 | member.mode & 0o044
            member = member._replace(mode=mode, uid=self._own[0], gid=self._own[1], attributes={})
        path = self._path(member.name)
        self._names.add(member)
        if member.kind == "directory":
            self.placer.directory(path)
        elif member.kind == "file":
            content: Iterator[tuple[int, bytes]] = self._reader.data()
            if self._target.prompt and member.name == _in_layer(0, self._target.prompt.path):
                for _ in content:
                    pass
                member, content = _filled(member, self._target.prompt)
            self.placer.file(path, member, content)
        elif member.kind == "link":
            self._check_link(member)
            self.placer.link(path, self._path(member.target))
        elif member.kind == "whiteout":
            self.placer.whiteout(path)
        else:
            self.placer.other(path, member)

    def _tree(self, member: Member) -> str:
        """The kind of tree that a member is in. Raises Damaged if it may not be there."""
        name = member.name
        parts = name.split(b"/")
        if any(part in (b"", b".", b"..") for part in parts):
            raise Damaged(f"the member {shown(name)} is outside the archive's directories")
        tree = self._trees.get(b"/".join(parts[:2]))
        if tree is None:
            raise Damaged(f"the member {shown(name)} belongs to no layer")
        if tree == ORIGINS and member.kind not in _OF_ORIGINS:
            raise Damaged(f"{shown(name)} is not a file")
        return tree

    def _check_link(self, member: Member) -> None:
        same = member.name.split(b"/")[:2] == member.target.split(b"/")[:2]
        if not same or self._names.kind(member.target) in _NO_LINK or member.target == member.name:
            raise Damaged(
                f"{shown(member.name)} is a link to {shown(member.target)}, which is not an earlier file in it"
            )

    def _path(self, name: bytes) -> bytes:
        """The path for a member."""
        parts = name.split(b"/")
        if parts[0] == os.fsencode(LAYERS):
            parts.insert(2, b"upper")
        return b"/".join(parts)

    @property
    def _own(self) -> tuple[int, int]:
        """The owner of the states of the host: the user, who is not root of the environment."""
        id_map = self._target.id_map
        return (0, 0) if id_map is None else (id_map.own_uid, id_map.own_gid)

    def _chains(self) -> list[tuple[int, ...]]:
        chains = [self._manifest.current, *(numbers for _, numbers in self._manifest.snapshots)]
        return [chain for chain in chains if chain]

    def _show_name(self) -> None:
        """Let the prompt show the name, where only a frozen layer does, unless its file was deleted."""
        prompt = self._target.prompt
        if prompt is None:
            return
        for number in self._manifest.current:
            name = _in_layer(number, prompt.path)
            parents = [name.rsplit(b"/", count)[0] for count in range(1, prompt.path.count("/") + 1)]
            if (kind := self._names.kind(name)) is not None:
                if number != 0 and kind == "file":
                    self._insert(0, prompt, partial(self._like, number))
                return
            if any(self._hides(parent) for parent in parents):
                return

    def _like(self, number: int, path: str) -> Member:
        found = self._names.directory(_in_layer(number, path))
        assert found is not None  # a file in it is there
        return found

    def _hides(self, name: bytes) -> bool:
        directory = self._names.directory(name)
        return self._names.kind(name) is not None if directory is None else directory.opaque

    def _insert(self, number: int, addition: Addition, like: Callable[[str], Member]) -> None:
        """Add a file that is not in the archive, unless something else is there; new directories are `like` others."""
        parts = addition.path.split("/")
        for end in range(1, len(parts)):
            path = "/".join(parts[:end])
            name = _in_layer(number, path)
            kind = self._names.kind(name)
            if kind is None:
                self._add(like(path)._replace(name=name, opaque=False))
            elif kind != "directory":
                return
        name = _in_layer(number, addition.path)
        if self._names.kind(name) is None:
            self._names.add(Member(name, "file"))
            self.placer.file(self._path(name), *_filled(Member(name, "file", mode=addition.mode), addition))


def _in_layer(number: int, path: str) -> bytes:
    return os.fsencode(f"{LAYERS}/{number}/{path}")


def _filled(member: Member, addition: Addition) -> tuple[Member, Iterator[tuple[int, bytes]]]:
    """Replace the content of a file while it is written."""
    content = addition.content.encode("utf-8", "surrogateescape")
    return member._replace(size=len(content), extents=None), iter([(0, content)])


def _of_host(path: str) -> Member:
    try:
        status = os.stat(f"/{path}")
    except OSError:  # the host has none
        return Member(b"", "directory", mode=0o755)
    return Member(b"", "directory", status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns)
