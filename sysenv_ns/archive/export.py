"""export: writes an environment that does not run to one file, which appears complete or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sysenv_ns.archive import compression, manifest, output, tarball
from sysenv_ns.archive.manifest import LAYERS, ORIGINS, ArchiveManifest
from sysenv_ns.archive.packer import Packer, UpperForm, text_member
from sysenv_ns.drivers import driver
from sysenv_ns.environment import directory, layers, rest
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.files import reader
from sysenv_ns.files.marks import Marks
from sysenv_ns.files.reader import is_directory
from sysenv_ns.kernel import namespace, ring
from sysenv_ns.kernel.ring import RingWriter
from sysenv_ns.packages import origin
from sysenv_ns.reporter import Progress, ProgressBar, unseen


@dataclass(frozen=True)
class Exported:
    """The result: file, size, and notices for the user."""

    name: str
    file: str
    format: str
    size: int
    notes: tuple[str, ...]


def export(store: Store, name: str, file: str, force: bool, bar: ProgressBar) -> Exported:
    """Write an environment to a file, or to the standard output ("-"). Raises SysenvError; then no file has changed."""
    with (
        rest.at_rest(store, name, "the export", reading=True) as environment,
        output.standard() if file == "-" else output.file(Path(file), force, store.as_user) as stream,
        bar() as progress,
    ):
        notes = write(environment, stream, progress)
        size = stream.tell() if file != "-" else 0
    return Exported(name, file, "environment", size, notes)


def write(environment: Environment, file: BinaryIO, progress: Progress) -> tuple[str, ...]:
    """Write an environment at rest as a compressed archive; returns notices. Raises OSError, SysenvError."""
    store = Store(environment.store)
    content = content_of(store, environment)
    total = 0
    if progress is not unseen:
        (total,) = layers.sizes(environment.id_map, [[Path(path) for path in content.layers]])

    def inside(output: RingWriter) -> int:
        enter(environment)
        try:
            return _pack(content, output)
        except OSError as error:
            raise SysenvError(f"the files of {environment.name} cannot be read: {located(error)}") from error

    def compress(blocks: Iterator[memoryview]) -> tuple[BinaryIO, str]:
        compressed = stack.enter_context(compression.writer(file))
        checksum = hashlib.sha256()
        done = 0
        for block in blocks:
            checksum.update(block)
            compressed.write(block)
            done += len(block)
            progress(min(1.0, done / (total + 1)))
        return compressed, checksum.hexdigest()

    with contextlib.ExitStack() as stack:
        devices, (compressed, checksum) = ring.drained(inside, int, "sysenv-ns-export", compress)
        # Not before it is known that the child has read everything: who gets this from a pipe can see nothing else.
        compressed.write(text_member(manifest.END, json.dumps({"sha256": checksum}).encode()) + tarball.END)
    return (
        (f"device nodes become empty files in it, as in environments of other drivers: {devices}",) if devices else ()
    )


@dataclass(frozen=True)
class Content:
    """The content: the description, the directories of layers and of states of the host, and how to read them.

    The layer 0 is the environment's own directory, the others are frozen.
    """

    manifest: ArchiveManifest
    layers: tuple[str, ...]
    origins: tuple[str, ...]
    marks: Marks
    additions: Mapping[str, tuple[int, bytes]]  # by path

    def pack_layer(self, packer: Packer, number: int, name: str, ignored: re.Pattern[bytes] | None = None) -> None:
        """Write a layer under this name, in its namespace, without files whose names there match `ignored`.

        Raises OSError, SysenvError.
        """
        left_out = {os.fsencode(f"{name}/{inner}"): wanted for inner, wanted in self.additions.items()}
        packer.tree(f"{self.layers[number]}/{directory.UPPER}", name, UpperForm(self.marks, left_out, ignored))

    def pack_origin(self, packer: Packer, number: int, name: str) -> None:
        """The same for a state of the host."""
        packer.tree(self.origins[number], name)


def enter(environment: Environment) -> None:
    """Let this process, which ends soon, read all files of an environment. Raises OSError."""
    namespace.enter(environment.id_map)
    namespace.become_root()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one is open for each level of a tree


def content_of(store: Store, environment: Environment) -> Content:
    """The content of an environment at rest. Raises SysenvError."""
    chains = [environment.layers, *(snapshot.layers for snapshot in environment.snapshots)]
    idents = list(dict.fromkeys(ident for chain in chains for ident in chain))
    numbers = {ident: number for number, ident in enumerate(idents, start=1)}
    paths = [environment.path, *(store.layers / ident for ident in idents)]
    for path in paths:
        if not is_directory(path / directory.UPPER):
            raise SysenvError(
                f"{environment.name} has lost its files: {path}/{directory.UPPER} is missing",
                f"delete what is left of it: sysenv-ns remove {environment.name}",
            )
    _check_mounts(environment, paths)
    states: dict[str, int] = {}
    described = tuple(_layer(store, path, states) for path in paths)
    id_map = environment.id_map
    found = ArchiveManifest(
        environment.name,
        environment.driver,
        id_map.kind if id_map else None,
        environment.created,
        manifest.machine(),
        described,
        current=(0, *(numbers[ident] for ident in environment.layers)),
        snapshots=tuple((s, tuple(numbers[ident] for ident in s.layers)) for s in environment.snapshots),
        origins=len(states),
        settings=_settings(environment),
    )
    own = driver.of(environment)
    added = {a.path: (a.mode, a.content.encode()) for a in own.upper_additions()}
    places = tuple(str(origin.path_of(store, key)) for key in states)
    return Content(found, tuple(map(str, paths)), places, own.marks, added)


def _check_mounts(environment: Environment, paths: Sequence[Path]) -> None:
    """Refuse changes to a separate disk, which only the driver root has, and no other driver could place."""
    for path in paths:
        for point, place in directory.listed([path]).items():
            if point and is_directory(path / place) and os.listdir(path / place):
                raise SysenvError(
                    f"{environment.name} cannot be exported: it has changes to {point}, a separate file system here",
                    "only the driver root keeps such changes apart: use an environment of another driver",
                )


def _layer(store: Store, path: Path, states: dict[str, int]) -> manifest.ArchivedLayer:
    """A layer with its states of the host, as far as known; these get numbers."""
    known = origin.read(path)
    keys = (known.packages, known.accounts) if known else ()
    if not keys or not all(origin.path_of(store, key).is_dir() for key in keys):
        return manifest.ArchivedLayer(None, None)
    return manifest.ArchivedLayer(*(states.setdefault(key, len(states)) for key in keys))


def _settings(environment: Environment) -> str | None:
    try:
        return reader.read(environment.path / directory.CONFIG).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SysenvError(f"{error.filename} cannot be read: {reason(error)}", "make it readable") from error


def _pack(content: Content, output: RingWriter) -> int:
    """In the namespace: write all but the end; returns the number of devices. Raises OSError, SysenvError."""
    packer = Packer(output)
    packer.text(manifest.NAME, manifest.encode(content.manifest))
    for number in range(len(content.origins)):
        content.pack_origin(packer, number, f"{ORIGINS}/{number}")
    for number in range(len(content.layers)):
        content.pack_layer(packer, number, f"{LAYERS}/{number}")
    return packer.devices
