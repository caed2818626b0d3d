"""Where everything lives: paths, env.json, locks, atomic writes; it runs and mounts nothing.

STORE/base/KEY/LAYER/     base layers, see base.py
STORE/envs/NAME/          env.json, upper/, work/, root/ (the mount point), lock, state.json, origin.json
STORE/layers/ID/          frozen changes, in the directory of the environment that they were of, see layers.py
STORE/origins/KEY/        what the host was when environments began to have their own, see origin.py
STORE/shims/NAME/         a script for each of its programs, for PATH, see shims.py
STORE/removed/            environments that were removed and can be restored, see removed.py
STORE/trash/              what is being deleted

What root makes for a user by way of sudo lies in a store of its own, see rootstore.py.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from sysenv_ns import TYPE_CHECKING, documents, policy
from sysenv_ns.basics import contextmanager, suppress
from sysenv_ns.environment import directory, transaction
from sysenv_ns.errors import NameTaken, NeedsRoot, SysenvError, reason
from sysenv_ns.files import locks, reader
from sysenv_ns.files.reader import is_directory
from sysenv_ns.files.replacement import write_json, write_whole
from sysenv_ns.kernel import idmap, ownership, remedies
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.paths import Path
from sysenv_ns.records import asdict, dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any, Literal, TypeAlias

    from sysenv_ns.environment.removed import Removed
    from sysenv_ns.files.marks import Marks

FORMAT_VERSION = 1
_LAYERED_VERSION = 2  # of an environment with frozen layers: who does not know of them must not start it without
SOURCE_PREFIX = "sysenv-ns:"
Ephemeral: TypeAlias = "Literal['memory', 'disk']"
# Backups leave out what has it (https://bford.info/cachedir/): bases are made anew, and others' files are in them.
_CACHE_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# This directory is a cache of sysenv-ns: what environments share, made from the files of this system.
"""
_DEFAULT_ACL = "system.posix_acl_default"
_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_IN_IDENTS = frozenset(f"{_DIGITS}{_LETTERS}{_LETTERS.upper()}-")
_IN_NAMES = _IN_IDENTS | {".", "_"}
_IN_LAYERS = frozenset(f"{_DIGITS}abcdef")
_END = 253402300800.0
_OF_ANOTHER = "use the version of sysenv-ns that made it"


@dataclass(frozen=True)
class Snapshot:
    """A state that an environment can go back to: its frozen layers of then, uppermost first."""

    label: str
    created: float
    layers: tuple[str, ...]
    environment: str  # whose it was: a clone has the history of its source
    automatic: bool = False  # nobody asked for it: it keeps what a rollback has put away


@dataclass(frozen=True)
class Environment:
    """The description of one environment, as env.json keeps it, and where it lies."""

    name: str
    ident: str
    driver: str
    id_map: IdMap | None
    created: float
    path: Path
    store: Path
    layers: tuple[str, ...] = ()  # the frozen ones below its changes, uppermost first
    snapshots: tuple[Snapshot, ...] = ()  # the oldest first
    ephemeral: Ephemeral | None = None  # where the changes of a throwaway one are
    shared: Path | None = None  # another store that its frozen layers are in, see shared.py

    @property
    def upper(self) -> Path:
        """The environment's changes, shaped like /."""
        return self.path / directory.UPPER

    def uppers(self, place: str = directory.UPPER) -> tuple[Path, ...]:
        """All that it has changed, uppermost first: its own directory of that name, and those of its frozen layers.

        Frozen ones that do not exist are left out.
        """
        frozen = ((self.shared or self.store) / directory.LAYERS / ident / place for ident in self.layers)
        return (self.path / place, *(path for path in frozen if path.is_dir()))

    @property
    def work(self) -> Path:
        """overlayfs' work directory."""
        return self.path / directory.WORK

    @property
    def root(self) -> Path:
        """The empty directory that the root is mounted on, in the environment's own mount namespace."""
        return self.path / directory.ROOT

    @property
    def by_root(self) -> bool:
        """Whether its sessions are real root's: they have no user namespace."""
        return self.id_map is None

    @property
    def root_only(self) -> bool:
        """Whether nobody but root exists inside (the single id map)."""
        return self.id_map is not None and self.id_map.kind == "single"

    @property
    def source(self) -> str:
        """The overlay's name in mount tables: how a process of this environment is recognised."""
        return f"{SOURCE_PREFIX}{self.ident}"

    @property
    def marks(self) -> Marks:
        """How its changes hide what lies below them."""
        from sysenv_ns.files import marks  # not on the path of exec

        return marks.of(self.driver)

    def changes(self, points: Iterable[str] | None = None) -> list[tuple[str, str]]:
        """These mount points, or all, with the directories of its changes there, uppermost first."""
        places = (
            directory.listed(self.uppers("")) if points is None else {point: directory.upper(point) for point in points}
        )
        return [(point, str(p)) for point, place in places.items() for p in self.uppers(place) if p.is_dir()]

    def require_root(self) -> None:
        """Raise NeedsRoot when only root can enter, end or remove it and the caller is not root."""
        if self.by_root and os.geteuid() != 0:
            raise NeedsRoot(f"{self.name} has the driver root", "run sysenv-ns with sudo")


def is_name(name: str) -> bool:
    """Whether something in the store can have this name."""
    return 0 < len(name) <= 100 and name[0] not in ".-" and _IN_NAMES.issuperset(name)


def _is_ident(ident: str) -> bool:
    return 0 < len(ident) <= 64 and _IN_IDENTS.issuperset(ident)


def _is_layer(ident: str) -> bool:
    return len(ident) == 16 and _IN_LAYERS.issuperset(ident)


def check_name(name: str, what: str = "an environment") -> str:
    """Return `name` if it may name an environment (or `what` else), else raise SysenvError."""
    if not is_name(name):
        raise SysenvError(
            f"{name!r} is not a valid name for {what}",
            "use letters, digits, '.', '_' and '-', at most 100, not starting with '.' or '-'",
            exit_status=2,
        )
    return name


@dataclass(frozen=True)
class Behalf:
    """For whom root keeps a store: where that user's own one is, and how root is that user for a moment."""

    store: Path
    acting: Callable[[], AbstractContextManager[None]]


@contextmanager
def _as_is() -> Iterator[None]:
    """The user whose process this is."""
    yield


class Store:
    """The store's directories. Its mode is 0700: a setuid-root file of an upper is, seen from the host, setuid-you."""

    def __init__(self, path: Path, beside: Store | None = None, behalf: Behalf | None = None) -> None:
        """`beside`: what root keeps for this user, in names one with it; `behalf`: for whom root keeps this one."""
        self.path = path
        self.beside = beside
        self.named = behalf.store if behalf else path  # what the user calls it
        self.as_user = behalf.acting if behalf else _as_is
        self._is_read = False
        self._mode = 0o755 if behalf else 0o700  # of what root keeps, a directory above is closed
        self.envs = path / directory.ENVIRONMENTS
        self.base = path / directory.BASES
        self.trash = path / directory.TRASH
        self.layers = path / directory.LAYERS
        self.removed = path / directory.REMOVED

    def prepare(self) -> None:
        """Create what is missing and keep everybody else out. Raises SysenvError."""
        try:
            self.path.mkdir(mode=self._mode, parents=True, exist_ok=True)
            ownership.require(self.path, closed=False)
            status = self.path.stat()
            if status.st_uid != os.geteuid():
                raise SysenvError(f"{self.path} belongs to another user", "set SYSENV_NS_HOME to a directory of yours")
            if status.st_gid != os.getegid():
                # A namespace with other groups has no capabilities over it.
                os.chown(self.path, -1, os.getegid())
            if stat.S_IMODE(status.st_mode) != self._mode:
                self.path.chmod(self._mode)
            parts = (self.envs, self.base, self.trash, self.layers, self.removed)
            for part in parts:
                part.mkdir(mode=self._mode, exist_ok=True)
                if part.is_symlink():  # put there when others could write
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(part))
            for part in (self.path, *parts):
                # Inherited from a directory above, it would decide the modes of all that is made here, /etc's for one.
                with suppress(OSError):  # there is none, or the file system has no such lists
                    os.removexattr(part, _DEFAULT_ACL)
            if not os.path.lexists(tag := self.base / directory.CACHE_TAG):
                with suppress(FileNotFoundError, FileExistsError):  # another process writes it just now
                    write_whole(tag, _CACHE_TAG, durable=False)
        except OSError as error:
            raise SysenvError(
                f"the store {self.path} cannot be written: {reason(error)}", remedies.storage(error, self.path)
            ) from error

    def reading(self) -> Store:
        """The same for who is going to write nothing, so that it may be read-only."""
        import copy  # not on the path of exec

        found = copy.copy(self)
        found._is_read = True
        return found

    def parts(self) -> tuple[Store, ...]:
        """This one, and what root keeps for its user."""
        return (self,) if self.beside is None else (self, self.beside)

    def holding(self, name: str) -> Store:
        """The part that has an environment of this name; this one where none has."""
        return next((part for part in self.parts() if os.path.lexists(part.envs / check_name(name))), self)

    def names(self) -> list[str]:
        """The names of all environments in this part, sorted."""
        try:
            return sorted(e.name for e in os.scandir(self.envs) if is_name(e.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SysenvError(f"the store {self.path} cannot be read: {reason(error)}") from error

    def all_names(self) -> list[str]:
        """The same in all parts."""
        return sorted(name for part in self.parts() for name in part.names())

    def all_removed(self) -> list[Removed]:
        """The environments of all parts that were removed and can be restored, the last one at the end."""
        from sysenv_ns.environment import removed  # not on the path of exec

        return removed.all_of(*(part.removed for part in self.parts()))

    def directory(self, name: str) -> Path:
        """The directory of an existing environment. Raises SysenvError; a symbolic link is never followed."""
        path = self.holding(name).envs / name
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            raise self.unknown(name) from None
        except OSError as error:
            raise SysenvError(f"the environment {name} cannot be read: {reason(error)}") from error
        if not stat.S_ISDIR(mode):
            raise SysenvError(f"{path} is not a directory of the store", "remove it by hand")
        return path

    def unknown(self, name: str) -> SysenvError:
        """The error for an environment that does not exist."""
        known = self.all_names()
        if any(found.name == name for found in self.all_removed()):
            return SysenvError(f"there is no environment {name}", f"to restore it: sysenv-ns remove --undo {name}")
        if not known:
            return SysenvError(f"there is no environment {name}", f"create it with: sysenv-ns create {name}")
        from sysenv_ns import similar  # not on the path of exec

        other = similar.meant(name, known)
        guess = f"did you mean {other}? " if other else ""
        return SysenvError(f"there is no environment {name}", f"{guess}existing ones: {', '.join(known)}")

    def exists(self, name: str) -> bool:
        """Whether the name is taken, be it by a damaged environment."""
        return any(os.path.lexists(part.envs / check_name(name)) for part in self.parts())

    def load(self, name: str) -> Environment:
        """Read env.json of an existing environment. Raises SysenvError.

        Of one that root keeps (`environment.driver` is root then) nothing more can be done without root.
        """
        return self.load_from(self.directory(name), name, self.holding(name))

    def load_from(self, path: Path, name: str, part: Store) -> Environment:
        """Read env.json in a directory that may be another one than an environment's usual one. Raises SysenvError."""
        environment = read_description(path, name, part.path)
        lender = self if environment.shared is None else Store(environment.shared)
        for place in (environment.upper, *map(lender._layer, environment.layers)):
            if not is_directory(place):
                hint = f"what is left is in {path}; `sysenv-ns remove {name}` deletes it"
                raise SysenvError(f"the environment {name} has lost its files: {place} is missing", hint)
        return environment

    def _layer(self, ident: str) -> Path:
        """A frozen layer, be it that root's half of them is moved, see rootstore.py."""
        places = [part.layers / ident for part in self.parts()]
        return next(filter(is_directory, places), places[0])

    def add(self, environment: Environment, staging: Path) -> None:
        """Make the environment prepared in `staging` visible under its name, all at once. Raises SysenvError."""
        write_description(staging, environment)
        try:
            transaction.publish(staging, environment.path)
        except FileExistsError:
            raise NameTaken(
                f"the environment {environment.name} already exists",
                f"enter it with: sysenv-ns shell {environment.name}",
            ) from None

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the exclusive lock of an environment. Raises SysenvError when it is removed meanwhile.

        The descriptor is closed by execve(2), so a session that becomes its command lets go at the right moment.
        """
        path = self.directory(name) / directory.LOCK
        try:
            descriptor = locks.locked(path, reading=self._is_read)
        except SysenvError as error:
            if isinstance(error.__cause__, FileNotFoundError):  # with its directory
                raise self.unknown(name) from None
            raise
        try:
            try:
                same = os.path.samestat(os.fstat(descriptor), os.stat(path))
            except FileNotFoundError:
                same = False
            if not same:
                raise self.unknown(name)
            yield
        finally:
            os.close(descriptor)


def read_description(path: Path, name: str, store: Path) -> Environment:
    """Read env.json in a directory of an environment of that store. Raises SysenvError."""
    hint = f"its files are in {path / directory.UPPER}; `sysenv-ns remove {name}` deletes it"
    try:
        data = documents.mapping(reader.read_json(path / directory.DESCRIPTION), "it")
        version = documents.field(data, "version", documents.integer)
        if version not in (FORMAT_VERSION, _LAYERED_VERSION):
            raise SysenvError(
                f"the environment {name} has format {version}, this sysenv-ns reads {_LAYERED_VERSION}", _OF_ANOTHER
            )
        driver = documents.field(data, "driver", documents.text)
        if driver not in policy.DRIVERS:
            raise SysenvError(f"the environment {name} has a driver that this sysenv-ns does not know", _OF_ANOTHER)
        return _decode(data, name, path, store, driver)
    except OSError as error:
        raise SysenvError(f"env.json of {name} cannot be read: {reason(error)}", hint) from error
    except ValueError as error:
        raise SysenvError(f"env.json of {name} is damaged ({error})", hint) from error


def _decode(data: dict[str, Any], name: str, path: Path, store: Path, driver: str) -> Environment:
    """Raises ValueError."""
    id_map = documents.field(data, "id_map", idmap.from_data)
    if (id_map is None) != (not policy.DRIVERS[driver]):
        raise ValueError("the driver and the id map do not match")
    return Environment(
        name,
        documents.field(data, "ident", _ident),
        driver,
        id_map,
        documents.field(data, "created", _time),
        path,
        store,
        layers=_decode_layers(data.get("layers", [])),
        snapshots=tuple(map(_decode_snapshot, documents.sequence(data.get("snapshots", []), "snapshots"))),
        ephemeral=_decode_ephemeral(data.get("ephemeral")),
        shared=_decode_shared(data.get("shared")),
    )


def write_description(path: Path, environment: Environment, durable: bool = True) -> None:
    """Write env.json in a directory of an environment, at once. Raises OSError.

    `durable` is False where all of a file system is written out afterwards.
    """
    data: dict[str, Any] = {
        "version": FORMAT_VERSION,
        "ident": environment.ident,
        "driver": environment.driver,
        "id_map": None if environment.id_map is None else asdict(environment.id_map),
        "created": environment.created,
    }
    if environment.layers or environment.snapshots:
        snapshots = [asdict(snapshot) for snapshot in environment.snapshots]
        data |= {"version": _LAYERED_VERSION, "layers": environment.layers, "snapshots": snapshots}
    if environment.ephemeral is not None:
        data["ephemeral"] = environment.ephemeral
    if environment.shared is not None:
        data["shared"] = str(environment.shared)
    write_json(path / directory.DESCRIPTION, data, durable)


def _checked(is_one: Callable[[str], bool]) -> Callable[[object, str], str]:
    def check(value: object, what: str) -> str:
        if not is_one(found := documents.text(value, what)):
            raise ValueError(f"{what} is wrong")
        return found

    return check


_ident, _name, _layer = _checked(_is_ident), _checked(is_name), _checked(_is_layer)


def _time(value: object, what: str) -> float:
    """Seconds since the epoch, of a year with four digits."""
    if not 0 <= (found := documents.number(value, what)) < _END:
        raise ValueError(f"{what} is not a time")
    return found


def _decode_snapshot(value: object) -> Snapshot:
    data = documents.mapping(value, "a snapshot")
    return Snapshot(
        documents.field(data, "label", _name),
        documents.field(data, "created", _time),
        documents.field(data, "layers", _decode_layers),
        documents.field(data, "environment", _name),
        documents.field(data, "automatic", documents.flag),
    )


def _decode_layers(value: object, what: str = "layers") -> tuple[str, ...]:
    return tuple(_layer(ident, what) for ident in documents.sequence(value, what))


def _decode_ephemeral(data: Any) -> Ephemeral | None:
    if data is not None and data not in ("memory", "disk"):
        raise ValueError("ephemeral is not a known place")
    return data  # type: ignore[no-any-return]


def _decode_shared(data: Any) -> Path | None:
    if data is None:
        return None
    if not documents.text(data, "shared").startswith("/") or "\0" in data:
        raise ValueError("shared is not an absolute path")
    return Path(data)


def timestamp() -> float:
    """Seconds since the epoch, for env.json."""
    return time.time()
