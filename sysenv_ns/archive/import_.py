"""import: creates an environment from an archive, after all of it was read and checked, or not at all.

Unpacked files are in the store's trash. The layers get their names in the store first, which has no effect as long as
no environment needs them; then one rename(2) makes the environment visible.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sysenv_ns import lifecycle
from sysenv_ns.archive import compression, manifest
from sysenv_ns.archive.manifest import LAYERS, ORIGINS, ArchiveManifest
from sysenv_ns.archive.tarball import Damaged, Reader
from sysenv_ns.archive.unpacker import Target, unpack
from sysenv_ns.drivers import choose, driver
from sysenv_ns.environment import config, directory, ephemeral, layers, transaction, uppers
from sysenv_ns.environment.description import Environment, new_ident, now, write_description
from sysenv_ns.environment.store import Store, check_name
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.files.reader import is_directory
from sysenv_ns.files.replacement import sync_directory, sync_file_system
from sysenv_ns.host import standins
from sysenv_ns.kernel import children, namespace, remedies
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.packages import origin
from sysenv_ns.packages.origin import Origin
from sysenv_ns.reporter import Progress, ProgressBar, Reporter

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Wish:
    """The options of an import; a name of None means that in the archive."""

    file: str
    name: str | None
    driver: str
    id_map: str
    force: bool = False
    verb: str = "import"  # what the user has called


@dataclass(frozen=True)
class Imported:
    """The environment, and notices for the user.

    `layers` are the names of the frozen layers, by their numbers in the archive; `exact`: nothing of them was lost.
    """

    environment: Environment
    notes: tuple[str, ...]
    layers: Mapping[int, str]
    exact: bool


class Source:
    """An archive that is being read: pieces of its bytes, each with the fraction read so far."""

    def __init__(self, pieces: Iterator[tuple[bytes, float]]) -> None:
        self._pieces = pieces
        self._unread = b""
        self.head = b""  # what has been read in order to know what it is

    def look(self, size: int) -> bytes:
        """The next bytes; they are kept for `pieces`."""
        while not self._unread and (piece := next(self._pieces, None)):
            self._unread = piece[0]
        data, self._unread = self._unread[:size], self._unread[size:]
        self.head += data
        return data

    def pieces(self) -> Iterator[tuple[bytes, float]]:
        """All bytes from the beginning."""
        yield self.head + self._unread, 0.0
        yield from self._pieces


def _of_file(stream: BinaryIO, size: int) -> Source:
    decompressed = compression.reader(stream)

    def pieces() -> Iterator[tuple[bytes, float]]:
        while data := decompressed.read(_CHUNK):
            yield data, stream.tell() / size if size else 0.0

    return Source(pieces())


def import_(store: Store, wish: Wish, reporter: Reporter, bar: ProgressBar) -> Imported:
    """Create an environment from an archive. Raises SysenvError; then nothing incomplete is left."""
    with _opened(wish.file, store) as source:
        # sudo, which this may call for, cannot read a pipe from its beginning again.
        chosen = choose_for(store, wish, reporter) if wish.file == "-" else None
        return import_from(store, source, wish, reporter, bar, chosen)


def import_from(
    store: Store,
    source: Source,
    wish: Wish,
    reporter: Reporter,
    bar: ProgressBar,
    chosen: tuple[str, IdMap | None] | None = None,
) -> Imported:
    """The same from any stream; `wish.file` is its name in messages. `chosen`: the result of choose_for."""
    try:
        found = manifest.read(Reader(source.look), wish.file)
        name = check_name(wish.name or found.name)
        check_free(store, name, wish)
        manifest.check_machine(found.machine, wish.file, wish.force)
        driver, id_map = chosen or choose_for(store, wish, reporter)
        new = Environment(name, new_ident(), driver, id_map, now(), store.envs / name, store.path)
        return _import(store, source, found, new, reporter, bar)
    except (Damaged, compression.Error, EOFError) as error:
        raise _damaged(wish, source, error) from error
    except OSError as error:
        hint = remedies.storage(error, store.path)
        raise SysenvError(f"importing {wish.file} failed: {located(error)}", hint) from error


def choose_for(store: Store, wish: Wish, reporter: Reporter) -> tuple[str, IdMap | None]:
    """The driver and the id map for an import. Raises SysenvError."""
    store.prepare()
    return choose.choose(store, wish.driver, wish.id_map, reporter.ask)


def _damaged(wish: Wish, source: Source, error: Exception) -> SysenvError:
    if not source.head:
        return manifest.foreign(wish.file)
    said = "its compressed data is truncated or damaged" if not isinstance(error, Damaged) else str(error)
    again = "copy it again, or export the environment again" if wish.verb == "import" else "pull or push it again"
    return SysenvError(f"{wish.file} cannot be imported: {said}", again)


@contextlib.contextmanager
def _opened(file: str, store: Store) -> Iterator[Source]:
    """A file that the user may read, or the standard input ("-"). Raises SysenvError."""
    try:
        with store.as_user():
            descriptor = os.dup(sys.stdin.fileno()) if file == "-" else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            yield _of_file(stream, os.fstat(descriptor).st_size if stream.seekable() else 0)
    except OSError as error:
        raise SysenvError(f"{file} cannot be read: {reason(error)}", "give a file made by sysenv-ns export") from error


def check_free(store: Store, name: str, wish: Wish) -> None:
    """Raise SysenvError if an environment has that name."""
    if store.exists(name):
        raise SysenvError(
            f"the environment {name} already exists", f"give another name: sysenv-ns {wish.verb} {wish.file} NAME"
        )
    ephemeral.check_free(store, name, None)


def _import(
    store: Store, source: Source, found: ArchiveManifest, new: Environment, reporter: Reporter, bar: ProgressBar
) -> Imported:
    with _collected(store, new) as staging:
        _prepare(staging, found)
        renamed = standins.prompt(new.name) if new.name != found.name else None
        own = driver.of(new)
        with bar() as progress:
            target = Target(staging, own.marks, new.id_map, renamed, own.upper_additions())
            lost = _unpack(source, target, progress)
        placed = replace(new, path=staging / LAYERS / "0")
        _check_mounts(store, staging, found, new)
        notes = [*_notes(lost, new), *_settle(store, placed.path, found, new)]
        own.build_base(store, placed, config.host(store, placed), reporter)
        _describe(store, staging, found, new)
        with uppers.locked(store):
            made, idents = _place(store, staging, found, new)
            store.add(made, placed.path)
    lifecycle.tidy(store)
    return Imported(made, tuple(notes), idents, exact=not any(lost.values()))


@contextlib.contextmanager
def _collected(store: Store, new: Environment) -> Iterator[Path]:
    """The directory for unpacking; afterwards layers that no environment needs are deleted too."""
    try:
        with transaction.staging(store.trash, f"{transaction.NEW}{new.name}", new.id_map) as staging:
            yield staging
    finally:
        layers.tidy(store)


def _prepare(staging: Path, found: ArchiveManifest) -> None:
    """Create empty directories for layers, 0 being the environment's own, and for states of the host."""
    staging.mkdir(mode=0o755)
    for number in range(len(found.layers)):
        (staging / LAYERS / str(number)).mkdir(mode=0o755, parents=True)
    for name in (directory.WORK, directory.ROOT):
        (staging / LAYERS / "0" / name).mkdir(mode=0o755)
    (staging / LAYERS / "0" / directory.LOCK).touch(mode=0o600)
    (staging / ORIGINS).mkdir(mode=0o755)


@dataclass(frozen=True)
class _Unpacked:
    """What was lost, with the number of files; or what is wrong with the archive."""

    lost: Mapping[str, int]
    damage: str = ""


def _unpack(source: Source, target: Target, progress: Progress) -> Mapping[str, int]:
    """Unpack, in a process in the namespace; returns what was lost. Raises Damaged, OSError, SysenvError."""

    def inside(stream: BinaryIO) -> _Unpacked:
        namespace.enter(target.id_map)
        namespace.become_root()
        try:
            return _Unpacked(unpack(stream.read, target))
        except Damaged as error:
            return _Unpacked({}, str(error))

    def feed(stream: BinaryIO) -> None:
        for data, part in source.pieces():
            stream.write(data)
            progress(part)

    result = children.fed(inside, _Unpacked, "sysenv-ns-import", feed)
    if result.damage:
        raise Damaged(result.damage)
    return result.lost


def _notes(lost: Mapping[str, int], new: Environment) -> Iterator[str]:
    said = {
        "owners": "belonged to users other than root; in the single id map everything belongs to root"
        if new.root_only
        else "became owned by nobody: your subordinate ids do not cover their owners",
        "entries": "lost access control list entries for users that do not exist in the single id map",
    }
    for what, count in sorted(lost.items()):
        if count:
            files = "1 file" if count == 1 else f"{count} files"
            yield f"{files} {said.get(what, f'lost the {what}, which is not possible here')}"


def _check_mounts(store: Store, staging: Path, found: ArchiveManifest, new: Environment) -> None:
    """Refuse changes to a disk that the driver root would keep separately. Raises SysenvError."""
    points = driver.of(new).points(config.host(store, new))
    for point in filter(None, points):
        for number in range(len(found.layers)):
            place = Path(f"{staging}/{LAYERS}/{number}/{directory.UPPER}{point}")
            if is_directory(place) and os.listdir(place):
                raise SysenvError(
                    f"{new.name} cannot be imported: it has changes to {point}, a separate file system here",
                    "only the driver root keeps such changes apart: use another driver",
                )


def _settle(store: Store, place: Path, found: ArchiveManifest, new: Environment) -> Iterator[str]:
    """Import the settings, if possible here; yields them for the user, as they come from a stranger, or why not."""
    if found.settings is None:
        return
    path = place / directory.CONFIG
    path.write_text(found.settings, errors="surrogateescape")
    try:
        config.host(store, replace(new, path=place))
    except SysenvError as error:
        path.unlink()
        yield f"its settings are left out: {error.message.replace(str(path), directory.CONFIG)}"
        return
    said = tomllib.loads(found.settings)
    if said:
        # JSON, as it has no letter that does something to a terminal.
        yield f"its settings are imported: {', '.join(f'{key} = {json.dumps(said[key])}' for key in sorted(said))}"


def _describe(store: Store, staging: Path, found: ArchiveManifest, new: Environment) -> None:
    """Move the states of the host to the store, and record those of each layer. Raises OSError."""
    keys = [origin.adopt(store, staging / ORIGINS / str(number)) for number in range(found.origins)]
    for number, layer in enumerate(found.layers):
        place = staging / LAYERS / str(number)
        if layer.packages is not None and layer.accounts is not None:
            origin.write(place, Origin(keys[layer.packages], keys[layer.accounts]), durable=False)
        write_description(place, new, durable=False)
    sync_file_system(staging)


def _place(
    store: Store, staging: Path, found: ArchiveManifest, new: Environment
) -> tuple[Environment, Mapping[int, str]]:
    """Give the layers names in the store; returns the environment with these. The lock must be held. Raises OSError."""
    idents = {number: layers.new_ident() for number in range(1, len(found.layers))}
    for number, ident in idents.items():
        os.rename(staging / LAYERS / str(number), store.layers / ident)
    sync_directory(store.layers)
    snapshots = (
        replace(snapshot, layers=tuple(idents[number] for number in numbers)) for snapshot, numbers in found.snapshots
    )
    current = tuple(idents[number] for number in found.current[1:])
    return replace(new, layers=current, snapshots=tuple(snapshots)), idents
