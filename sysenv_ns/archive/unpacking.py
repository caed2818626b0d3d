"""Reads the members of an archive and judges them before a file is made of each; shows nothing to anybody.

A member lies in a directory that came before it, under a name that is new. So nothing is written through a symbolic
link, over anything, or outside, whatever the names are; placing.py does not follow links either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sysenv_ns.archive import manifest, tarball
from sysenv_ns.archive.manifest import LAYERS, ORIGINS, Manifest
from sysenv_ns.archive.placing import Placer
from sysenv_ns.archive.tarball import Damaged, Member, Reader, shown
from sysenv_ns.host.records import Addition
from sysenv_ns.kernel.idmap import IdMap

_OF_ORIGINS = ("file", "directory")
_NO_LINK = ("directory", "whiteout", None)  # what has no second name


@dataclass(frozen=True)
class Target:
    """The directory where all is put (a layer N into layers/N/upper), and what environment it becomes."""

    directory: Path
    driver: str
    id_map: IdMap | None
    prompt: Addition | None  # what tells its name, when that is a new one
    additions: Sequence[Addition]  # what its driver has in the lowest layer


def unpack(read: Callable[[int], bytes], target: Target) -> dict[str, int]:
    """Make the files of a whole archive, whose bytes `read` gives; returns what was lost of how many of them.

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
    def __init__(self, reader: Reader, found: Manifest, target: Target) -> None:
        self._reader, self._manifest, self._target = reader, found, target
        self.placer = Placer(target.directory, target.driver, target.id_map)
        self._kinds: dict[bytes, tarball.Kind] = {}
        self._directories: dict[bytes, Member] = {}
        trees = ((LAYERS, len(found.layers)), (ORIGINS, found.origins))
        self._trees = {os.fsencode(f"{kind}/{n}"): kind for kind, count in trees for n in range(count)}

    def run(self) -> None:
        """All members. When it comes back, they are as they were written."""
        while member := self._reader.next():
            if member.name == os.fsencode(manifest.END):
                self._check_end(member)
                return
            self._add(member)
        raise Damaged("it has no end")

    def complete(self) -> None:
        """What the environment has beside what is in the archive; then the directories."""
        for number in {chain[-1] for chain in self._chains()}:
            for addition in self._target.additions:
                self._insert(number, addition, _of_host)
        self._show_name()
        self.placer.finish()

    def _check_end(self, member: Member) -> None:
        checksum = self._reader.checksum
        try:
            said = json.loads(manifest.content(self._reader, member))["sha256"]
        except (ValueError, KeyError, TypeError):
            raise Damaged("its end is wrong") from None
        if said != checksum:
            raise Damaged("its content has not the checksum that it says")
        if self._reader.next() is not None:
            raise Damaged("something follows its end")
        if missing := [tree for tree in self._trees if tree not in self._kinds]:
            raise Damaged(f"{shown(missing[0])} is missing")

    def _add(self, member: Member) -> None:
        tree = self._tree(member)
        path = self._path(member.name)
        if tree == ORIGINS:
            mode = 0o755 if member.kind == "directory" else 0o600 | member.mode & 0o044
            member = replace(member, mode=mode, uid=self._own[0], gid=self._own[1], attributes={})
        if member.kind == "directory":
            self._directories[member.name] = member
            self.placer.directory(path, member)
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
        """Which kind of tree a member is in. Raises Damaged when it may not be there."""
        name = member.name
        parts = name.split(b"/")
        if any(part in (b"", b".", b"..") for part in parts) or b"\0" in name:
            raise Damaged(f"it has a member {shown(name)}, which leads out of it")
        tree = self._trees.get(b"/".join(parts[:2]))
        if tree is None:
            raise Damaged(f"it has a member {shown(name)}, which belongs to nothing")
        if name in self._kinds:
            raise Damaged(f"it has the member {shown(name)} twice")
        if len(parts) == 2:
            if member.kind != "directory":
                raise Damaged(f"{shown(name)} is no directory")
        elif self._kinds.get(name.rpartition(b"/")[0]) != "directory":
            raise Damaged(f"{shown(name)} is in no directory of it")
        if tree == ORIGINS and member.kind not in _OF_ORIGINS:
            raise Damaged(f"{shown(name)} is no file")
        self._kinds[name] = member.kind
        return tree

    def _check_link(self, member: Member) -> None:
        same = member.name.split(b"/")[:2] == member.target.split(b"/")[:2]
        if not same or self._kinds.get(member.target) in _NO_LINK or member.target == member.name:
            raise Damaged(f"{shown(member.name)} is a link to {shown(member.target)}, which is no file before it")

    def _path(self, name: bytes) -> bytes:
        """Where a member is put."""
        parts = name.split(b"/")
        if parts[0] == os.fsencode(LAYERS):
            parts.insert(2, b"upper")
        return b"/".join(parts)

    @property
    def _own(self) -> tuple[int, int]:
        """Who reads the states of the host: the user, who is not root of the environment."""
        id_map = self._target.id_map
        return (0, 0) if id_map is None else (id_map.own_uid, id_map.own_gid)

    def _chains(self) -> list[tuple[int, ...]]:
        chains = [self._manifest.current, *(numbers for _, numbers in self._manifest.snapshots)]
        return [chain for chain in chains if chain]

    def _show_name(self) -> None:
        """Let the prompt say the name, where only a frozen layer does, unless that has been taken away."""
        prompt = self._target.prompt
        if prompt is None:
            return
        for number in self._manifest.current:
            name = _in_layer(number, prompt.path)
            parents = [name.rsplit(b"/", count)[0] for count in range(1, prompt.path.count("/") + 1)]
            if name in self._kinds:
                if number != 0 and self._kinds[name] == "file":
                    self._insert(0, prompt, partial(self._like, number))
                return
            if any(self._hides(parent) for parent in parents):
                return

    def _like(self, number: int, path: str) -> Member:
        return self._directories[_in_layer(number, path)]

    def _hides(self, name: bytes) -> bool:
        kind = self._kinds.get(name)
        return kind not in (None, "directory") or (kind == "directory" and self._directories[name].opaque)

    def _insert(self, number: int, addition: Addition, like: Callable[[str], Member]) -> None:
        """A file that is not in the archive, unless something else is there; new directories are `like` others."""
        parts = addition.path.split("/")
        for end in range(1, len(parts)):
            path = "/".join(parts[:end])
            name = _in_layer(number, path)
            if name not in self._kinds:
                self._add(replace(like(path), name=name, opaque=False))
            elif self._kinds[name] != "directory":
                return
        name = _in_layer(number, addition.path)
        if name not in self._kinds:
            self._tree(Member(name, "file"))
            self.placer.file(self._path(name), *_filled(Member(name, "file", mode=addition.mode), addition))


def _in_layer(number: int, path: str) -> bytes:
    return os.fsencode(f"{LAYERS}/{number}/{path}")


def _filled(member: Member, addition: Addition) -> tuple[Member, Iterator[tuple[int, bytes]]]:
    """A file with another content, as it is written."""
    content = addition.content.encode("utf-8", "surrogateescape")
    return replace(member, size=len(content), extents=None), iter([(0, content)])


def _of_host(path: str) -> Member:
    try:
        status = os.stat(f"/{path}")
    except OSError:  # the host has none
        return Member(b"", "directory", mode=0o755)
    return Member(b"", "directory", status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns)
