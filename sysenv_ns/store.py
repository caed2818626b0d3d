"""Where everything lives: paths, env.json, locks, atomic writes; it runs and mounts nothing.

STORE/base/KEY/LAYER/     base layers, see base.py
STORE/envs/NAME/          env.json, upper/, work/, root/ (the mount point), lock, state.json, origin.json
STORE/layers/ID/          frozen changes, in the directory of the environment that they were of, see layers.py
STORE/origins/KEY/        what the host was when environments began to have their own, see origin.py
STORE/trash/              what is being removed
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import remedies, syscalls
from sysenv_ns.kernel.idmap import Extent, IdMap

FORMAT_VERSION = 1
_LAYERED_VERSION = 2  # of an environment with frozen layers: who does not know of them must not start it without
SOURCE_PREFIX = "sysenv-ns:"
LAYERS = "layers"
Ephemeral = Literal["memory", "disk"]
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_LAYER = re.compile(r"[0-9a-f]{16}")


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
    layers: tuple[str, ...] = ()  # the frozen ones below its changes, uppermost first
    snapshots: tuple[Snapshot, ...] = ()  # the oldest first
    ephemeral: Ephemeral | None = None  # where the changes of a throwaway one are

    @property
    def upper(self) -> Path:
        """The environment's changes, shaped like /."""
        return self.path / "upper"

    def uppers(self, place: str = "upper") -> tuple[Path, ...]:
        """All that it has changed, uppermost first: its own directory of that name, and those of its frozen layers.

        Frozen ones that do not exist are left out.
        """
        store = self.path.parent.parent
        frozen = (store / LAYERS / ident / place for ident in self.layers)
        return (self.path / place, *(path for path in frozen if path.is_dir()))

    @property
    def work(self) -> Path:
        """overlayfs' work directory."""
        return self.path / "work"

    @property
    def root(self) -> Path:
        """The empty directory that the root is mounted on, in the environment's own mount namespace."""
        return self.path / "root"

    @property
    def source(self) -> str:
        """The overlay's name in mount tables: how a process of this environment is recognised."""
        return f"{SOURCE_PREFIX}{self.ident}"


def check_name(name: str, what: str = "an environment") -> str:
    """Return `name` if it may name an environment (or `what` else), else raise SysenvError."""
    if not _NAME.fullmatch(name):
        raise SysenvError(
            f"{name!r} cannot name {what}",
            "use letters, digits, '.', '_' and '-', at most 100, not starting with '.' or '-'",
            exit_status=2,
        )
    return name


def location() -> Path:
    """The directory of the store for this user: $SYSENV_NS_HOME, $XDG_DATA_HOME/sysenv-ns, ~/.local/share/sysenv-ns."""
    if home := os.environ.get("SYSENV_NS_HOME"):
        return Path(os.path.abspath(home))
    data = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    if data.startswith("/"):
        return Path(data) / "sysenv-ns"
    try:
        return Path.home() / ".local" / "share" / "sysenv-ns"
    except RuntimeError:
        raise SysenvError("you have no home directory", "set SYSENV_NS_HOME to a directory of yours") from None


class Store:
    """The store's directories. Its mode is 0700: a setuid-root file of an upper is, seen from the host, setuid-you."""

    def __init__(self, path: Path, owner: int | None = None) -> None:
        """`owner`: the user whose store it is, where that is not the calling one."""
        self.path = path
        self._owner = os.geteuid() if owner is None else owner
        self.envs = path / "envs"
        self.base = path / "base"
        self.trash = path / "trash"
        self.layers = path / LAYERS

    def prepare(self) -> None:
        """Create what is missing and keep everybody else out. Raises SysenvError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.path.stat()
            if status.st_uid != self._owner:
                raise SysenvError(f"{self.path} belongs to somebody else", "set SYSENV_NS_HOME to a directory of yours")
            if status.st_gid != os.getegid() and self._owner == os.geteuid():
                # A namespace with other groups has no capabilities over it.
                os.chown(self.path, -1, os.getegid())
            if stat.S_IMODE(status.st_mode) != 0o700:
                self.path.chmod(0o700)
            for directory in (self.envs, self.base, self.trash, self.layers):
                directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SysenvError(
                f"the store {self.path} cannot be written: {reason(error)}", remedies.storage(error, self.path)
            ) from error

    def names(self) -> list[str]:
        """The names of all environments, sorted."""
        try:
            return sorted(e.name for e in os.scandir(self.envs) if _NAME.fullmatch(e.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SysenvError(f"the store {self.path} cannot be read: {reason(error)}") from error

    def directory(self, name: str) -> Path:
        """The directory of an existing environment. Raises SysenvError; a symbolic link is never followed."""
        path = self.envs / check_name(name)
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
        known = ", ".join(self.names())
        hint = f"there are: {known}" if known else f"make it with: sysenv-ns create {name}"
        return SysenvError(f"there is no environment {name}", hint)

    def exists(self, name: str) -> bool:
        """Whether the name is taken, be it by a damaged environment."""
        return os.path.lexists(self.envs / check_name(name))

    def load(self, name: str) -> Environment:
        """Read env.json of an existing environment. Raises SysenvError."""
        path = self.directory(name)
        environment = read_description(path, name)
        for place in (environment.upper, *(self.layers / ident for ident in environment.layers)):
            if not is_directory(place):
                hint = f"what is left is in {path}; `sysenv-ns remove {name}` deletes it"
                raise SysenvError(f"the environment {name} has lost its files: there is no {place}", hint)
        return environment

    def add(self, environment: Environment, staging: Path) -> None:
        """Make the environment prepared in `staging` visible under its name, all at once. Raises SysenvError."""
        write_description(staging, environment)
        try:
            # Not os.replace: a directory that somebody else made meanwhile must not be replaced, not even an empty one.
            if os.path.lexists(environment.path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(staging, environment.path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            raise SysenvError(
                f"the environment {environment.name} exists already",
                f"enter it with: sysenv-ns shell {environment.name}",
            ) from None
        sync_directory(self.envs)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the exclusive lock of an environment. Raises SysenvError when it is removed meanwhile.

        The descriptor is closed by execve(2), so a session that becomes its command lets go at the right moment.
        """
        path = self.directory(name) / "lock"
        with file_lock(path) as descriptor:
            try:
                same = os.path.samestat(os.fstat(descriptor), path.stat())
            except FileNotFoundError:
                same = False
            if not same:
                raise self.unknown(name)
            yield


def read_description(path: Path, name: str) -> Environment:
    """Read env.json in a directory of an environment. Raises SysenvError."""
    hint = f"its files are in {path}/upper; `sysenv-ns remove {name}` deletes it"
    try:
        data = json.loads((path / "env.json").read_bytes())
        if data["version"] not in (FORMAT_VERSION, _LAYERED_VERSION):
            raise SysenvError(
                f"the environment {name} has format {data['version']}, this sysenv-ns reads {_LAYERED_VERSION}",
                "use the version of sysenv-ns that made it",
            )
        id_map = None if data["id_map"] is None else _decode_id_map(data["id_map"])
        ident, driver, created = str(data["ident"]), str(data["driver"]), float(data["created"])
        if (id_map is None) != (driver == "root"):
            raise ValueError(f"driver {driver} and id map do not fit")
        layers = _decode_layers(data.get("layers", ()))
        snapshots = tuple(map(_decode_snapshot, data.get("snapshots", ())))
        ephemeral = _decode_ephemeral(data.get("ephemeral"))
        return Environment(
            name, ident, driver, id_map, created, path, layers=layers, snapshots=snapshots, ephemeral=ephemeral
        )
    except OSError as error:
        raise SysenvError(f"env.json of {name} cannot be read: {reason(error)}", hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise SysenvError(f"env.json of {name} is damaged ({error})", hint) from error


def write_description(path: Path, environment: Environment) -> None:
    """Write env.json in a directory of an environment, at once. Raises OSError."""
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
    write_json(path / "env.json", data)


def is_directory(path: Path) -> bool:
    """Not one that a symbolic link leads to: root must not be led out of a user's store."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _decode_snapshot(data: dict[str, Any]) -> Snapshot:
    label, environment = str(data["label"]), str(data["environment"])
    if not (_NAME.fullmatch(label) and _NAME.fullmatch(environment)):
        raise ValueError(f"wrong names {label!r}, {environment!r}")
    layers = _decode_layers(data["layers"])
    return Snapshot(label, float(data["created"]), layers, environment, bool(data["automatic"]))


def _decode_layers(data: Any) -> tuple[str, ...]:
    layers = tuple(str(ident) for ident in data)
    if wrong := [ident for ident in layers if not _LAYER.fullmatch(ident)]:
        raise ValueError(f"{wrong[0]!r} names no layer")
    return layers


def _decode_ephemeral(data: Any) -> Ephemeral | None:
    if data not in (None, "memory", "disk"):
        raise ValueError(f"unknown place of changes {data!r}")
    return data  # type: ignore[no-any-return]


def _decode_id_map(data: dict[str, Any]) -> IdMap:
    kind = data["kind"]
    if kind not in ("full", "single"):
        raise ValueError(f"unknown id map {kind!r}")
    uids, gids = (
        tuple(Extent(**{key: int(number) for key, number in extent.items()}) for extent in data[key])
        for key in ("uids", "gids")
    )
    return IdMap(kind, uids, gids, int(data["own_uid"]), int(data["own_gid"]))


@contextlib.contextmanager
def file_lock(path: Path, shared: bool = False) -> Iterator[int]:
    """Hold flock(2) on `path`, created when missing; yields the descriptor. Raises SysenvError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SysenvError(f"{path} cannot be locked: {reason(error)}", remedies.storage(error, path)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def write_json(path: Path, data: object) -> None:
    """Replace a file atomically: a reader, or a power cut, finds the old or the new content, whole. Raises OSError.

    For one writer at a time: the name of what is written first is always the same, so that what a killed writer has
    left of it goes with the next one.
    """
    temporary = path.with_name(f"{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(data))  # not json.dump, which is ten times as slow
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def sync_directory(path: Path) -> None:
    """fsync(2) a directory, so that what was renamed into it stays. Raises OSError."""
    _sync(path, os.fsync)


def sync_file_system(path: Path) -> None:
    """syncfs(2): write all that the file system of a directory has not written yet. Raises OSError."""
    _sync(path, syscalls.syncfs)


def _sync(path: Path, synchronise: Callable[[int], None]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        synchronise(descriptor)
    finally:
        os.close(descriptor)


def timestamp() -> float:
    """Seconds since the epoch, for env.json."""
    return time.time()
