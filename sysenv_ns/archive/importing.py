"""import: makes an environment of an archive, which is there when all of it is read and right, or not at all.

What is unpacked lies in the store's trash. The layers get their names in the store first, which mean nothing as long as
no environment needs them; then one rename(2) makes the environment visible.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sysenv_ns import doctor
from sysenv_ns.archive import compression, manifest
from sysenv_ns.archive.manifest import LAYERS, ORIGINS, Manifest
from sysenv_ns.archive.tarball import Damaged, Reader
from sysenv_ns.archive.unpacking import Target, unpack
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.host import config, layout, standins
from sysenv_ns.kernel import namespace, remedies, removal
from sysenv_ns.kernel.children import Child
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import drivers
from sysenv_ns.lower.base import ProgressBar
from sysenv_ns.lower.upkeep import Progress
from sysenv_ns.packages import origin
from sysenv_ns.packages.origin import Origin
from sysenv_ns.session import Reporter
from sysenv_ns.snapshots import layers
from sysenv_ns.store import (
    Environment,
    Store,
    check_name,
    is_directory,
    sync_directory,
    sync_file_system,
    timestamp,
    write_description,
)
from sysenv_ns.upper import ephemeral

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Wish:
    """What the user has asked for; a name of None is that in the archive."""

    file: str
    name: str | None
    driver: str
    id_map: str
    force: bool = False


@dataclass(frozen=True)
class Imported:
    """The environment, and what the user should know."""

    environment: Environment
    notes: tuple[str, ...]


class _Source:
    """An archive that is read: its bytes, and how much of the file they were."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._compressed, self._size = stream, size
        self._stream = compression.reader(stream)
        self.head = b""  # what has been read in order to know what it is

    def look(self, size: int) -> bytes:
        """The next bytes, which are kept."""
        data = self._stream.read(size)
        self.head += data
        return data

    def pieces(self) -> Iterator[tuple[bytes, float]]:
        """All bytes from the beginning, and what part is read by then."""
        yield self.head, 0.0
        while data := self._stream.read(_CHUNK):
            yield data, self._compressed.tell() / self._size if self._size else 0.0


def import_(store: Store, wish: Wish, reporter: Reporter, bar: ProgressBar) -> Imported:
    """Make an environment of an archive. Raises SysenvError; then nothing half-made is left."""
    with _opened(wish.file) as source:
        try:
            # sudo, which this may call for, cannot read a pipe from its beginning again.
            chosen = _choose(store, wish) if wish.file == "-" else None
            found = manifest.read(Reader(source.look), wish.file)
            name = check_name(wish.name or found.name)
            _check_free(store, name, wish)
            manifest.check_machine(found.machine, wish.file, wish.force)
            driver, id_map = chosen or _choose(store, wish)
            new = Environment(name, uuid.uuid4().hex, driver, id_map, timestamp(), store.envs / name)
            return _import(store, source, found, new, reporter, bar)
        except (Damaged, compression.Error, EOFError) as error:
            raise _damaged(wish.file, source, error) from error
        except OSError as error:
            hint = remedies.storage(error, store.path)
            raise SysenvError(f"importing {wish.file} failed: {located(error)}", hint) from error


def _choose(store: Store, wish: Wish) -> tuple[str, IdMap | None]:
    store.prepare()
    return doctor.choose(store, wish.driver, wish.id_map)


def _damaged(file: str, source: _Source, error: Exception) -> SysenvError:
    if not source.head:
        return manifest.foreign(file)
    said = "its compressed data end too early or are damaged" if not isinstance(error, Damaged) else str(error)
    return SysenvError(f"{file} cannot be imported: {said}", "copy it again, or export the environment again")


@contextlib.contextmanager
def _opened(file: str) -> Iterator[_Source]:
    """A file, or the standard input ("-"). Raises SysenvError."""
    try:
        descriptor = os.dup(sys.stdin.fileno()) if file == "-" else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            yield _Source(stream, os.fstat(descriptor).st_size if stream.seekable() else 0)
    except OSError as error:
        raise SysenvError(f"{file} cannot be read: {reason(error)}", "give a file that export has made") from error


def _check_free(store: Store, name: str, wish: Wish) -> None:
    if store.exists(name):
        raise SysenvError(
            f"the environment {name} exists already", f"give another name: sysenv-ns import {wish.file} NAME"
        )
    ephemeral.check_free(store, name, None)


def _import(
    store: Store, source: _Source, found: Manifest, new: Environment, reporter: Reporter, bar: ProgressBar
) -> Imported:
    staging = removal.trash_path(store.trash, f"new-{new.name}")
    try:
        _prepare(staging, found)
        renamed = standins.prompt(new.name) if new.name != found.name else None
        additions = drivers.get(new.driver).additions()
        with bar() as progress:
            lost = _unpack(source, Target(staging, new.driver, new.id_map, renamed, additions), progress)
        directory = staging / LAYERS / "0"
        _check_mounts(store, staging, found, new)
        notes = [*_notes(lost, new.id_map), *_settle(store, directory, found, new)]
        drivers.get(new.driver).build_base(store, replace(new, path=directory), reporter.progress)
        _describe(store, staging, found, new)
        with layers.locked(store):
            made = _place(store, staging, found, new)
            store.add(made, directory)
    finally:
        if staging.exists():
            removal.remove_tree(staging, new.id_map)
        with contextlib.suppress(OSError, SysenvError):  # of layers that no environment needs after all
            layers.collect(store)
    removal.empty_trash(store.trash, new.id_map)
    return Imported(made, tuple(notes))


def _prepare(staging: Path, found: Manifest) -> None:
    """Empty directories for layers, of which 0 is that of the environment, and for states of the host."""
    staging.mkdir(mode=0o755)
    for number in range(len(found.layers)):
        (staging / LAYERS / str(number)).mkdir(mode=0o755, parents=True)
    for name in ("work", "root"):
        (staging / LAYERS / "0" / name).mkdir(mode=0o755)
    (staging / LAYERS / "0" / "lock").touch(mode=0o600)
    (staging / ORIGINS).mkdir(mode=0o755)


def _unpack(source: _Source, target: Target, progress: Progress) -> Mapping[str, int]:
    """Let a process in the namespace unpack; what was lost. Raises Damaged, OSError, SysenvError."""
    read_end, write_end = os.pipe()

    def inside() -> object:
        os.close(write_end)
        namespace.enter(target.id_map)
        namespace.become_root()
        with os.fdopen(read_end, "rb", buffering=_CHUNK) as stream:
            try:
                return {"lost": unpack(stream.read, target)}
            except Damaged as error:
                return {"damaged": str(error)}

    child = Child(inside, "sysenv-ns-import")
    os.close(read_end)
    try:
        with os.fdopen(write_end, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
            for data, part in source.pieces():
                _write_all(pipe, data)
                progress(part)
    except BaseException:
        child.abandon()  # what it was given is not whole: it ends
        raise
    result = child.wait()
    assert isinstance(result, dict)
    if "damaged" in result:
        raise Damaged(result["damaged"])
    return dict(result["lost"])


def _write_all(pipe: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _notes(lost: Mapping[str, int], id_map: IdMap | None) -> Iterator[str]:
    single = id_map is not None and id_map.kind == "single"
    said = {
        "owners": "belonged to others than root; in the single id map everything is root's"
        if single
        else "became nobody's: your subordinate ids do not reach their owners",
        "entries": "lost entries of access control lists, for users who do not exist in the single id map",
    }
    for what, count in sorted(lost.items()):
        if count:
            files = "1 file" if count == 1 else f"{count} files"
            yield f"{files} {said.get(what, f'lost the {what}, which cannot be had here')}"


def _check_mounts(store: Store, staging: Path, found: Manifest, new: Environment) -> None:
    """The driver root has the changes to a disk apart, where those of an archive are not. Raises SysenvError."""
    if new.id_map is not None:
        return
    for mount in layout.further_mounts(config.host(store, new)):
        for number in range(len(found.layers)):
            place = Path(f"{staging}/{LAYERS}/{number}/upper{mount.point}")
            if is_directory(place) and os.listdir(place):
                raise SysenvError(
                    f"{new.name} cannot be imported: it has changes to {mount.point}, a disk of its own here",
                    "the driver root alone keeps those apart: use another one",
                )


def _settle(store: Store, directory: Path, found: Manifest, new: Environment) -> Iterator[str]:
    """Take over the settings, if they are possible here: what they are, as they come from somebody else, or why not."""
    if found.settings is None:
        return
    path = directory / config.NAME
    path.write_text(found.settings, errors="surrogateescape")
    try:
        config.host(store, replace(new, path=directory))
    except SysenvError as error:
        path.unlink()
        yield f"its settings are left out: {error.message.replace(str(path), config.NAME)}"
        return
    said = tomllib.loads(found.settings)
    if said:
        # JSON, as it has no letter that does something to a terminal.
        yield f"its settings are taken over: {', '.join(f'{key} = {json.dumps(said[key])}' for key in sorted(said))}"


def _describe(store: Store, staging: Path, found: Manifest, new: Environment) -> None:
    """Give the states of the host their places, and note which each layer is of. Raises OSError."""
    keys = [origin.adopt(store, staging / ORIGINS / str(number)) for number in range(found.origins)]
    for number, layer in enumerate(found.layers):
        directory = staging / LAYERS / str(number)
        if layer.packages is not None and layer.accounts is not None:
            origin.write(directory, Origin(keys[layer.packages], keys[layer.accounts]))
        write_description(directory, new)
    sync_file_system(staging)


def _place(store: Store, staging: Path, found: Manifest, new: Environment) -> Environment:
    """Give the layers names in the store, whose lock must be held; the environment that needs them. Raises OSError."""
    idents = {number: layers.new_ident() for number in range(1, len(found.layers))}
    for number, ident in idents.items():
        os.rename(staging / LAYERS / str(number), store.layers / ident)
    sync_directory(store.layers)
    snapshots = (
        replace(snapshot, layers=tuple(idents[number] for number in numbers)) for snapshot, numbers in found.snapshots
    )
    current = tuple(idents[number] for number in found.current[1:])
    return replace(new, layers=current, snapshots=tuple(snapshots))
