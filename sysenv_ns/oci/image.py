"""Makes an image of an environment: a process inside its root yields the layers, this one compresses and packs them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, Protocol, cast

from sysenv_ns import documents
from sysenv_ns.environment import rest
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files.view import View
from sysenv_ns.kernel import children
from sysenv_ns.oci import archive, description, frames, layer, layering, roots
from sysenv_ns.oci.archive import Archive, Blob
from sysenv_ns.oci.deflate import BLOCK, Gzip
from sysenv_ns.oci.description import PackedLayer
from sysenv_ns.oci.frames import FrameWriter
from sysenv_ns.oci.layering import Layer
from sysenv_ns.reporter import Progress, ProgressBar, Reporter

_SECOND = 10**9  # nanoseconds
_HEADER = struct.Struct("=QI")  # about how many bytes there will be, and the length of the list of layers
_FALLBACK_SHELLS = ("/bin/bash", "/bin/sh")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Image:
    """What has been written."""

    image: str  # its name for podman and docker
    digest: str  # of its manifest
    created: str
    size: int  # bytes of all that is in it
    withheld: tuple[str, ...]  # private files of the host, which are empty, and directories
    left_out: tuple[str, ...]  # what no image can hold
    revealed: tuple[str, ...]  # private files of the host that the environment has changed: they are in it

    def notes(self, environment: str) -> tuple[str, ...]:
        """What somebody should know who gives it to others."""
        empty = f"{len(self.withheld)} files and directories are empty, as they are not world-readable here"
        return (
            *((f"{empty} (-v lists them)",) if self.withheld else ()),
            *(f"left out, as an image cannot hold this name: {path}" for path in self.left_out),
            *(
                f"in the image, as {environment} has changed it, but not world-readable here: {path}"
                for path in self.revealed
            ),
        )


@dataclass(frozen=True)
class ImageWish:
    """How an image is to be."""

    shell: str  # what it runs, if that is in it
    squash: bool  # all in one layer


class Blobs(Protocol):
    """Where the blobs of an image are written to."""

    def add(self, data: bytes) -> Blob:
        """Add a small one. Raises OSError."""

    def write(self, fill: Callable[[Callable[[bytes], object]], None]) -> Blob:
        """Add one, which `fill` hands over in pieces. Raises OSError, and what `fill` raises."""


@dataclass(frozen=True)
class PackedImage:
    """An image whose blobs are complete: its layers, by their keys, its configuration and its manifest."""

    layers: Mapping[str, PackedLayer]
    config: Blob
    manifest: Blob
    found: Found
    size: int


@dataclass(frozen=True)
class Found:
    """What is known of an image when its layers have been written: the lists are those of Image."""

    newest: int  # time of what was changed last, in seconds
    shell: str  # the one that there is; "" for none
    layers: tuple[str, ...]  # of each the key, as layer.key() has it
    withheld: tuple[str, ...]
    left_out: tuple[str, ...]
    revealed: tuple[str, ...]


def write(store: Store, name: str, file: BinaryIO, wish: ImageWish, reporter: Reporter, progress: ProgressBar) -> Image:
    """Write an environment, which must not run, into a seekable file. Raises SysenvError, OSError."""
    with rest.held(store, name, "the image") as environment:
        try:
            into = Archive(file)
            made = make(store, environment, into, wish, reporter, progress)
            image = description.reference(name)
            index = description.index(image, made.manifest)
            into.finish(index, image, made.config, [packed.blob for packed in made.layers.values()])
        except OSError as error:
            hint = "write it where there is more space" if error.errno in _NO_ROOM else "try again"
            raise SysenvError(f"the image of {name} cannot be made: {located(error)}", hint) from error
    return told(made, image)


def told(made: PackedImage, image: str) -> Image:
    """What a user is told of an image with this name."""
    found, created = made.found, description.timestamp(made.found.newest)
    return Image(image, made.manifest.digest, created, made.size, found.withheld, found.left_out, found.revealed)


def make(
    store: Store,
    environment: Environment,
    into: Blobs,
    wish: ImageWish,
    reporter: Reporter,
    bar: ProgressBar,
    ready: Mapping[str, PackedLayer] = MappingProxyType({}),
    done: Callable[[str, PackedLayer], None] = lambda key, packed: None,
) -> PackedImage:
    """Make the blobs of the image of an environment that is held at rest; layers that are `ready`, by their keys, are
    neither read nor compressed. Each of the others is handed to `done` when it is. Raises SysenvError, OSError.
    """

    def compress(pipe: BinaryIO) -> tuple[dict[str, PackedLayer], int]:
        with bar() as report:
            return _compress(pipe, into, report, done)

    found, (packed, size) = children.drained(
        lambda pipe: _read(store, environment, wish, reporter, ready, pipe), Found, "sysenv-ns-image", compress
    )
    layers = {key: packed[key] if key in packed else ready[key] for key in found.layers}
    created = description.timestamp(found.newest)
    listed = tuple(layers.values())
    config = into.add(archive.encode(description.configuration(environment.name, listed, found.shell, created)))
    return PackedImage(layers, config, into.add(archive.encode(description.manifest(config, listed))), found, size)


def _read(
    store: Store,
    environment: Environment,
    wish: ImageWish,
    reporter: Reporter,
    ready: Mapping[str, PackedLayer],
    pipe: BinaryIO,
) -> Found:
    """In the child: the layers, after a list of them, to the pipe; what else is to be known as the result."""
    mounted = roots.mount(store, environment, reporter)
    walk = mounted.whole
    divide = layering.single(walk, environment.name) if wish.squash else None
    layers = divide or layering.layered(mounted.host, walk, environment.name)
    keys = [layer.key(part.items) for part in layers]
    wanted = {key: part for key, part in zip(keys, layers, strict=True) if key not in ready}
    listed = json.dumps([(key, part.title) for key, part in wanted.items()]).encode()
    pipe.write(_HEADER.pack(sum(layer.size(part.items) for part in wanted.values()), len(listed)) + listed)
    for part in wanted.values():
        stream = FrameWriter(pipe, BLOCK)
        layer.write(part.items, cast(BinaryIO, stream))
        stream.finish()
    pipe.flush()
    root = View(mounted.place)
    shells = (path for path in (wish.shell, *_FALLBACK_SHELLS) if path.startswith("/") and root.status(path))
    report = walk.report
    withheld, left_out, revealed = (
        tuple(dict.fromkeys(paths)) for paths in (report.withheld, report.left_out, report.revealed)
    )
    return Found(_newest(layers), next(shells, ""), tuple(keys), withheld, left_out, revealed)


def _newest(layers: Sequence[Layer]) -> int:
    return max((item.header.mtime_ns // _SECOND for part in layers for item in part.items), default=0)


def _compress(
    pipe: BinaryIO, into: Blobs, report: Progress, done: Callable[[str, PackedLayer], None]
) -> tuple[dict[str, PackedLayer], int]:
    """Compress the layers that come out of the pipe; returns them by their keys, and how much is in them."""
    packed: dict[str, PackedLayer] = {}
    size = 0
    # Where the stream breaks off, the child tells why.
    with contextlib.suppress(EOFError):
        total, listed = _header(pipe)
        for key, title in listed:
            checksum = hashlib.sha256()

            def seen(block: bytes, checksum: hashlib._Hash = checksum) -> None:
                nonlocal size
                checksum.update(block)
                size += len(block)
                report(min(1.0, size / max(total, 1)))

            blob = into.write(lambda write, seen=seen: _deflate(pipe, write, seen))  # type: ignore[misc]
            packed[key] = PackedLayer(title, blob, archive.digest(checksum))
            done(key, packed[key])
    return packed, size


def _header(pipe: BinaryIO) -> tuple[int, list[tuple[str, str]]]:
    """About how many bytes there will be, and of each layer the key and the title. Raises EOFError."""
    total, length = _HEADER.unpack(frames.exactly(pipe, _HEADER.size))
    listed = frames.exactly(pipe, length)
    return total, [(key, title) for key, title in documents.sequence(documents.parse_json(listed), "layers")]


def _deflate(pipe: BinaryIO, write: Callable[[bytes], object], seen: Callable[[bytes], None]) -> None:
    """Compress one layer. Raises EOFError where it breaks off."""
    gzip = Gzip(write)
    try:
        for block in frames.blocks(pipe):
            seen(block)
            gzip.add(block)
        gzip.finish()
    finally:
        gzip.close()
