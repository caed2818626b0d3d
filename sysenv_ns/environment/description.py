"""What env.json says of an environment: reads it, writes it, and knows what follows from it. It opens nothing else."""

from __future__ import annotations

import os
import time

from sysenv_ns import TYPE_CHECKING, documents, policy
from sysenv_ns.environment import directory
from sysenv_ns.environment.directory import is_name
from sysenv_ns.errors import NeedsRoot, SysenvError, reason
from sysenv_ns.files import reader
from sysenv_ns.files.replacement import write_json
from sysenv_ns.kernel import idmap
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.paths import Path
from sysenv_ns.records import asdict, dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Literal, TypeAlias

    from sysenv_ns.files.marks import Marks

FORMAT_VERSION = 1
_LAYERED_VERSION = 2  # of an environment with frozen layers: who does not know of them must not start it without
SOURCE_PREFIX = "sysenv-ns:"
Ephemeral: TypeAlias = "Literal['memory', 'disk']"
_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_IN_IDENTS = frozenset(f"{_DIGITS}{_LETTERS}{_LETTERS.upper()}-")
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
    init: bool = False  # whether systemd is its process 1

    @property
    def upper(self) -> Path:
        """The environment's changes, shaped like /."""
        return self.path / directory.UPPER

    def uppers(self, place: str = directory.UPPER) -> tuple[Path, ...]:
        """All that it has changed, uppermost first: its own directory of that name, and those of its frozen layers.

        Frozen ones that do not exist are left out.
        """
        return (self.path / place, *(path / place for path in self.frozen() if (path / place).is_dir()))

    def frozen(self) -> list[Path]:
        """The directories of its frozen layers, uppermost first."""
        return [(self.shared or self.store) / directory.LAYERS / ident for ident in self.layers]

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
        init=documents.flag(data.get("init", False), "init"),
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
    if environment.init:
        data["init"] = True
    write_json(path / directory.DESCRIPTION, data, durable)


def _is_ident(ident: str) -> bool:
    return 0 < len(ident) <= 64 and _IN_IDENTS.issuperset(ident)


def _is_layer(ident: str) -> bool:
    return len(ident) == 16 and _IN_LAYERS.issuperset(ident)


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


def like(model: Environment, name: str, envs: Path, store: Path) -> Environment:
    """A new one like another, made now, without its history; in a directory of that name in `envs`."""
    return replace(model, name=name, ident=new_ident(), created=now(), path=envs / name, store=store, snapshots=())


def new_ident() -> str:
    """What no other environment is known by."""
    return os.urandom(16).hex()


def now() -> float:
    """Seconds since the epoch, for env.json."""
    return time.time()
