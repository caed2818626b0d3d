"""Rebuilds the archive that export would have written from an environment's description and trees; checks nothing.

The reader of the archive checks it like one from a stranger.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from sysenv_ns.archive import manifest, tarball
from sysenv_ns.archive.packer import text_member
from sysenv_ns.archive.tarball import Damaged, Member, Reader, shown
from sysenv_ns.registry.artifact import TREE

_TREE = os.fsencode(TREE)


# Passes on the content of a member of a tree, which has this name in there.
Watch = Callable[[str, bytes, Member, Iterator[tuple[int, bytes]]], Iterator[tuple[int, bytes]]]


def archive(description: bytes, trees: Iterable[tuple[str, BinaryIO]], watch: Watch) -> Iterator[bytes]:
    """The bytes of an archive, from the name and a stream of members of each tree. Raises Damaged, OSError."""
    digest = hashlib.sha256()
    for data in _members(description, trees, watch):
        digest.update(data)
        yield data
    yield text_member(manifest.END, json.dumps({"sha256": digest.hexdigest()}).encode())
    yield tarball.END


def _members(description: bytes, trees: Iterable[tuple[str, BinaryIO]], watch: Watch) -> Iterator[bytes]:
    yield text_member(manifest.NAME, description)
    for name, stream in trees:
        yield from _renamed(Reader(stream.read), name, watch)


def _renamed(reader: Reader, tree: str, watch: Watch) -> Iterator[bytes]:
    """All members of a blob, under the name of its tree in the archive."""
    top = os.fsencode(tree)
    while member := reader.next():
        target = _moved(member.target, top) if member.kind == "link" else member.target
        moved = member._replace(name=_moved(member.name, top), target=target)
        try:
            yield tarball.encode(moved)
        except tarball.TooLarge:
            raise Damaged(f"{shown(member.name)} has too many attributes") from None
        for _, data in watch(tree, member.name[len(_TREE) + 1 :], member, reader.data()):
            yield data
        yield tarball.padding(moved.stored)


def _moved(name: bytes, tree: bytes) -> bytes:
    if name != _TREE and not name.startswith(_TREE + b"/"):
        raise Damaged(f"the member {shown(name)} belongs to no layer")
    return tree + name[len(_TREE) :]
