"""Makes the blobs of an environment at rest that neither the registry nor the cache has; sends nothing.

That of a small layer refers to the layers below it (dictionary.py), which whoever pulls it has pulled before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from sysenv_ns import policy
from sysenv_ns.archive import compression, export, tarball
from sysenv_ns.archive.export import Content
from sysenv_ns.archive.manifest import LAYERS, ORIGINS
from sysenv_ns.archive.packer import Packer
from sysenv_ns.environment import directory
from sysenv_ns.environment.description import Environment
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.kernel import children, ring
from sysenv_ns.kernel.ring import RingWriter
from sysenv_ns.registry import dictionary, known
from sysenv_ns.registry.artifact import TREE, NamedTree
from sysenv_ns.registry.blobs import BlobCache, Descriptor
from sysenv_ns.registry.dictionary import Former, Head
from sysenv_ns.registry.known import LayerBlob
from sysenv_ns.reporter import Progress

_NOT_PUSHED = re.compile(os.fsencode(f"{TREE}{policy.NOT_PUSHED}"))
_PROCESS = "sysenv-ns-push"

Numbers = tuple[int, ...]
_T = TypeVar("_T")
_To = TypeVar("_To")


class BlobMaker:
    """Of one environment. `there`: the blobs that the registry has."""

    def __init__(self, environment: Environment, content: Content, cache: BlobCache, there: set[Descriptor]) -> None:
        self._environment, self._content, self._cache, self._there = environment, content, cache, there
        self._devices = 0

    def trees(self, progress: Progress) -> tuple[tuple[NamedTree, ...], int]:
        """All trees, each after those below it, and how many device nodes became files. Raises OSError, SysenvError."""
        found = []
        for tree in self._all():
            found.append(tree)
            progress(len(found) / (len(self._content.origins) + len(self._content.layers)))
        return tuple(found), self._devices

    def _all(self) -> Iterator[NamedTree]:
        for number in range(len(self._content.origins)):
            blob, _ = self._make(partial(self._content.pack_origin, number=number, name=TREE))
            yield NamedTree(f"{ORIGINS}/{number}", blob)
        for number, below in self._layers().items():
            found = self._layer(number, below)
            places = {self._ident(other): f"{LAYERS}/{other}" for other in below}
            yield NamedTree(f"{LAYERS}/{number}", found.blob, tuple(places[ident] for ident in found.below))

    def _layers(self) -> dict[int, Numbers]:
        """All layers, each after those below it, with these: the same whatever chain it is in, uppermost first."""
        described = self._content.manifest
        chains = [described.current, *(numbers for _, numbers in described.snapshots)]
        return {chain[at]: chain[at + 1 :] for chain in chains for at in reversed(range(len(chain)))}

    def _layer(self, number: int, below: Numbers) -> LayerBlob:
        path, idents = Path(self._content.layers[number]), {*map(self._ident, below)}
        noted = known.blob_of(path) if number else None  # 0 is no frozen one
        # What it was made with is there as long as it is, unless whoever made what was pulled has said nonsense.
        if noted is not None and idents.issuperset(noted.below) and self._has(noted.blob):
            return noted
        blob, used = self._make(lambda p: self._content.pack_layer(p, number, TREE, _NOT_PUSHED), below)
        made = LayerBlob(blob, tuple(map(self._ident, used)))
        if number:
            known.note_blob(path, made)
        return made

    def _ident(self, number: int) -> str:
        return Path(self._content.layers[number]).name

    def _has(self, blob: Descriptor) -> bool:
        return blob in self._there or self._cache.has(blob)

    def _make(self, pack: Callable[[Packer], None], below: Numbers = ()) -> tuple[Descriptor, Numbers]:
        """A blob, and those of the layers below that it refers to."""
        used: list[int] = []
        return self._cache.write(lambda file: used.extend(self._write(pack, file, below))), tuple(used)

    def _write(self, pack: Callable[[Packer], None], file: BinaryIO, below: Numbers) -> Numbers:
        """Read a tree in a process in the namespace, and compress it."""

        def inside(output: RingWriter) -> int:
            packer = Packer(output)
            pack(packer)
            output.write(tarball.END)
            return packer.devices

        def drain(blocks: Iterator[memoryview]) -> bytes | None:
            """The whole tree if it is small, else None."""
            start = bytearray()
            while below and len(start) <= dictionary.LIMIT:
                if (block := next(blocks, None)) is None:
                    return bytes(start)
                start += block
            with compression.writer(file) as compressed:
                compressed.write(start)
                for block in blocks:
                    compressed.write(block)
            return None

        devices, small = ring.drained(partial(self._entered, inside), int, _PROCESS, drain)
        self._devices += devices
        return () if small is None else self._write_small(small, file, below)

    def _write_small(self, tree: bytes, file: BinaryIO, below: Numbers) -> Numbers:
        former, content = self._former(tree, below)
        if len(content) < compression.LEAST:
            file.write(compression.compressed(tree))
            return ()
        file.write(Head.of([one.name for one in former], content).encode())
        file.write(compression.compressed(tree, content))
        return tuple(below[at] for at in sorted({one.below for one in former}))

    def _former(self, tree: bytes, below: Numbers) -> tuple[tuple[Former, ...], bytes]:
        """The dictionary for a tree: where its files are from, and its content."""
        top = os.fsencode(TREE)
        names = [name for name in dictionary.files(tree, top) if self._is_pushed(os.fsdecode(name))]
        places = [f"{self._content.layers[number]}/{directory.UPPER}" for number in below]
        write = partial(self._entered, partial(dictionary.write_former, names, places))
        return children.drained(write, tuple[Former, ...], _PROCESS, lambda stream: stream.read())

    def _is_pushed(self, name: str) -> bool:
        """Whether a file of this name below is in any case in the blob of its layer."""
        return name not in self._content.additions and not _NOT_PUSHED.fullmatch(os.fsencode(f"{TREE}/{name}"))

    def _entered(self, read: Callable[[_To], _T], output: _To) -> _T:
        """In a child: read the environment's files in its namespace. Raises SysenvError."""
        export.enter(self._environment)
        try:
            return read(output)
        except OSError as error:
            raise SysenvError(f"the files of {self._environment.name} cannot be read: {located(error)}") from error
