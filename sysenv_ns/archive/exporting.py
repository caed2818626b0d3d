"""export: writes an environment that does not run into one file, which is there as a whole or not at all."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sysenv_ns import resting
from sysenv_ns.archive import compression, manifest, output
from sysenv_ns.archive.manifest import LAYERS, ORIGINS, Manifest
from sysenv_ns.archive.packing import Layer, Packer
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.host import config
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.children import Child
from sysenv_ns.lower import drivers
from sysenv_ns.lower.base import ProgressBar
from sysenv_ns.lower.upkeep import Progress
from sysenv_ns.packages import origin
from sysenv_ns.snapshots import layers
from sysenv_ns.store import Environment, Store, is_directory
from sysenv_ns.sudo import Caller
from sysenv_ns.upper import uppers, view

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Exported:
    """What was written where, and what the user should know."""

    name: str
    file: str
    format: str
    size: int
    notes: tuple[str, ...]


def export(store: Store, name: str, file: str, force: bool, bar: ProgressBar, caller: Caller | None) -> Exported:
    """Write an environment to a file, or to the standard output ("-"). Raises SysenvError; then no file has changed.

    `caller`: whom root acts for, whose the file shall be.
    """
    with resting.at_rest(store, name, "the export") as environment:
        owner = (caller.uid, caller.gid) if caller else None
        with (
            output.standard() if file == "-" else output.file(Path(file), force, owner) as stream,
            bar() as progress,
        ):
            notes = write(environment, stream, progress)
            size = stream.tell() if file != "-" else 0
    return Exported(name, file, "environment", size, notes)


def write(environment: Environment, file: BinaryIO, progress: Progress) -> tuple[str, ...]:
    """Write an environment at rest as a compressed archive; what the user should know. Raises OSError, SysenvError."""
    store = Store(environment.path.parent.parent)
    content = _content(store, environment)
    (total,) = layers.sizes(environment.id_map, [[Path(path) for path in content.layers]])
    read_end, write_end = os.pipe()

    def inside() -> object:
        os.close(read_end)
        namespace.enter(environment.id_map)
        namespace.become_root()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one is open for each level of a tree
        with os.fdopen(write_end, "wb", buffering=_CHUNK) as stream:
            return _pack(content, stream)

    child = Child(inside, "sysenv-ns-export")
    os.close(write_end)
    try:
        with os.fdopen(read_end, "rb", buffering=0) as stream, compression.writer(file) as compressed:
            done = 0
            while data := stream.read(_CHUNK):
                compressed.write(data)
                done += len(data)
                progress(min(1.0, done / (total + 1)))
    except BaseException:
        child.abandon()  # nobody reads what it writes: it ends
        raise
    try:
        devices = child.wait()
    except OSError as error:
        raise SysenvError(f"the files of {environment.name} cannot be read: {located(error)}") from error
    assert isinstance(devices, int)
    return (f"device nodes are empty files in it, as in environments of other drivers: {devices}",) if devices else ()


@dataclass(frozen=True)
class _Content:
    """What is written: the description, the directories of layers and of states of the host, and how to read them."""

    manifest: Manifest
    layers: tuple[str, ...]
    origins: tuple[str, ...]
    signs: view.Signs
    additions: Mapping[str, tuple[int, bytes]]  # by path


def _content(store: Store, environment: Environment) -> _Content:
    """Raises SysenvError."""
    chains = [environment.layers, *(snapshot.layers for snapshot in environment.snapshots)]
    idents = list(dict.fromkeys(ident for chain in chains for ident in chain))
    numbers = {ident: number for number, ident in enumerate(idents, start=1)}
    paths = [environment.path, *(store.layers / ident for ident in idents)]
    for path in paths:
        if not is_directory(path / "upper"):
            raise SysenvError(
                f"{environment.name} has lost its files: there is no {path}/upper", "it cannot be exported"
            )
    _check_mounts(environment, paths)
    states: dict[str, int] = {}
    described = tuple(_layer(store, path, states) for path in paths)
    id_map = environment.id_map
    found = Manifest(
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
    added = {a.path: (a.mode, a.content.encode()) for a in drivers.get(environment.driver).additions()}
    places = tuple(str(origin.path_of(store, key)) for key in states)
    return _Content(found, tuple(map(str, paths)), places, view.signs(environment.driver), added)


def _check_mounts(environment: Environment, paths: Sequence[Path]) -> None:
    """The driver root has the changes to a disk apart, and no other driver knows where that is."""
    for path in paths:
        for point, place in uppers.listed([path]).items():
            if point and is_directory(path / place) and os.listdir(path / place):
                raise SysenvError(
                    f"{environment.name} cannot be exported: it has changes to {point}, a disk of its own here",
                    "the driver root alone keeps those apart: make one with another driver",
                )


def _layer(store: Store, path: Path, states: dict[str, int]) -> manifest.Layer:
    """A layer with the states of the host that it is of, as far as they are known; they get numbers."""
    known = origin.read(path)
    keys = (known.packages, known.accounts) if known else ()
    if not keys or not all(origin.path_of(store, key).is_dir() for key in keys):
        return manifest.Layer(None, None)
    return manifest.Layer(*(states.setdefault(key, len(states)) for key in keys))


def _settings(environment: Environment) -> str | None:
    try:
        return (environment.path / config.NAME).read_text(errors="surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SysenvError(f"{error.filename} cannot be read: {reason(error)}", "make it readable") from error


def _pack(content: _Content, stream: BinaryIO) -> int:
    """In the namespace: all that an archive has; returns the number of devices. Raises OSError, SysenvError."""
    packer = Packer(stream)
    packer.text(manifest.NAME, manifest.encode(content.manifest))
    for number, path in enumerate(content.origins):
        packer.tree(path, f"{ORIGINS}/{number}")
    for number, path in enumerate(content.layers):
        name = f"{LAYERS}/{number}"
        left_out = {os.fsencode(f"{name}/{inner}"): wanted for inner, wanted in content.additions.items()}
        packer.tree(f"{path}/upper", name, Layer(content.signs, left_out))
    packer.text(manifest.END, json.dumps({"sha256": packer.checksum}).encode())
    packer.end()
    return packer.devices
