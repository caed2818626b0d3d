"""Records the host as it was when an environment began to have its own packages, for a later rebase. Merges nothing.

    origins/KEY/         shaped like /: package databases, account files, configuration files as they were
        md5sums          the checksums of all packages' files in one
        signatures.json  of the databases of all package managers
    envs/NAME/origin.json    which of them the environment comes from, for its packages and for its accounts

All environments that come from the same state of the host share one; it is created with the first of them, and deleted
after the last.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import time
import zlib

from sysenv_ns import TYPE_CHECKING, documents, policy
from sysenv_ns.basics import suppress
from sysenv_ns.environment import transaction
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.directory import ACCOUNTS_SEEN, DRIFT_SEEN, ORIGIN, ORIGINS, ORIGINS_OF_ROOT
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import reader
from sysenv_ns.files.reader import Root
from sysenv_ns.files.replacement import write_json, write_whole
from sysenv_ns.host import signs
from sysenv_ns.paths import Path
from sysenv_ns.records import asdict, dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

ACCOUNTS = tuple(f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid"))
# Not those of dpkg.py and debconf.py, whose import takes more time than all that a start does here.
_DPKG = "/var/lib/dpkg"
STATUS, _ALTERNATIVES, _INFO = f"{_DPKG}/status", f"{_DPKG}/alternatives", f"{_DPKG}/info"
_DEBCONF = "/var/cache/debconf"
_DATABASES = (
    *(f"{_DPKG}/{name}" for name in ("diversions", "statoverride", "arch")),
    "/var/lib/apt/extended_states",
    *(f"{_DEBCONF}/{name}.dat" for name in ("config", "passwords", "templates")),
)
_WATCHED = (*policy.PACKAGE_DATABASES, *_DATABASES, _ALTERNATIVES, *ACCOUNTS)
CHECKSUMS = "/md5sums"
RELEASE = "/etc/os-release"
SIGNATURES = "/signatures.json"
_OF_ROOT = "-root"
_IN_KEYS = frozenset("0123456789abcdef")
_ADOPTED = 16  # digits of the key of another host's state; those of this one have fewer
_YOUNG = 3600.0  # seconds for which one that nobody names is kept: an environment may just be made with it


@dataclass(frozen=True)
class Origin:
    """The keys of the states of the host that an environment's packages and accounts come from."""

    packages: str
    accounts: str


def current_key() -> str:
    """The key of the host's present state: a few calls of lstat(2), so that every start can afford it."""
    # What root may read, users may not, and cannot delete what it has made for them by way of sudo.
    return f"{_state(_WATCHED)}{_OF_ROOT if os.geteuid() == 0 else ''}"


def current_accounts() -> str:
    """The same of the host's accounts alone."""
    return _state(ACCOUNTS)


def _state(paths: Iterable[str]) -> str:
    # Not hashlib: its import takes longer than all else here.
    return f"{zlib.crc32(repr([signs.current(path) for path in paths]).encode()):08x}"


def is_current(key: str) -> bool:
    """Whether it is the host's present state, whoever recorded it."""
    return key.removesuffix(_OF_ROOT) == current_key().removesuffix(_OF_ROOT)


def path_of(store: Store, key: str) -> Path:
    """The directory of the state with that key."""
    return store.path / (ORIGINS_OF_ROOT if key.endswith(_OF_ROOT) else ORIGINS) / key


def read(environment: Path) -> Origin | None:
    """The origin of an environment, by its directory; None if it has none, or a damaged one."""
    try:
        data = documents.mapping(reader.read_json(environment / ORIGIN), ORIGIN)
        return Origin(*(_key(data, name) for name in ("packages", "accounts")))
    except (OSError, ValueError):
        return None


def _key(data: dict[str, Any], name: str) -> str:
    """A name in the directory of all of them. Raises ValueError."""
    key = documents.field(data, name, documents.text)
    digits = key.removesuffix("-root")
    if not (0 < len(digits) <= 16 and _IN_KEYS.issuperset(digits)):
        raise ValueError(f"{name} is not a key")
    return key


def write(environment: Path, origin: Origin, durable: bool = True) -> None:
    """Record the origin of an environment; `durable` as for write_json. Raises OSError."""
    write_json(environment / ORIGIN, asdict(origin), durable)


def remember(store: Store) -> str:
    """Record the host's present state, if that was not done yet, and return its key. Raises OSError."""
    key = current_key()
    path = path_of(store, key)
    _check_parent(path)
    with suppress(FileNotFoundError):
        os.utime(path)
        return key
    path.parent.mkdir(mode=0o755, exist_ok=True)
    with transaction.staging(store.trash, "origin", None) as staging:
        _take(staging)
        with suppress(FileExistsError):  # somebody else was faster
            transaction.publish(staging, path)
    return key


def follow(store: Store, environment: Environment) -> bool:
    """At a start: as long as an environment has no package database or accounts of its own, its origin is today's host.

    Returns whether it has accounts, and nobody has looked yet what the host's have come to since; False for those of
    another host. Raises OSError.
    """
    origin = read(environment.path)
    if origin is None:  # made by an earlier version: nobody knows
        return False
    if origin.packages == origin.accounts and is_current(origin.packages):
        return False
    own_packages = has_databases(environment)
    own_accounts = any(own(environment, path) is not None for path in ACCOUNTS)
    if not (own_packages and own_accounts):
        key = remember(store)
        followed = Origin(origin.packages if own_packages else key, origin.accounts if own_accounts else key)
        if followed != origin:
            write(environment.path, followed)
    if not own_accounts or _is_adopted(origin.accounts):
        return False
    return reader.get(environment.path / ACCOUNTS_SEEN) != current_accounts().encode()


def may_be_drifted(environment: Environment) -> bool:
    """Whether the host has changed since an environment's origin, and this has not been examined yet."""
    origin = read(environment.path)
    if origin is None or is_current(origin.packages) or not has_databases(environment):
        return False
    try:
        return reader.read(environment.path / DRIFT_SEEN) != current_key().encode()
    except OSError:
        return True


def note_accounts_seen(environment: Environment, seen: str) -> None:
    """Note that an environment's accounts have what the host's were, in the state `seen`. Raises OSError."""
    write_whole(environment.path / ACCOUNTS_SEEN, seen.encode(), durable=False)


def note_seen(environment: Environment) -> bool:
    """Record that it was examined; False if that is not possible, as it is not ours or the disk is full."""
    try:
        write_whole(environment.path / DRIFT_SEEN, current_key().encode(), durable=False)
    except OSError:
        return False
    return True


def has_packages(environment: Environment) -> bool:
    """Whether an environment has changed the database of dpkg."""
    return own(environment, _DPKG) is not None


def has_databases(environment: Environment) -> bool:
    """Whether an environment has changed the database of any package manager, or answers to their questions."""
    return any(own(environment, path) is not None for path in (_DPKG, _DEBCONF, *policy.PACKAGE_DATABASES))


def own(environment: Environment, path: str) -> str | None:
    """The path of an environment's changed file; None if it has not changed that."""
    return next((f"{upper.path}{path}" for upper in _uppers(environment) if _decides(upper, path)), None)


def owned(environment: Environment, paths: Iterable[str]) -> list[str]:
    """Those of these paths where an environment has something of its own."""
    changed = list(_uppers(environment))
    above: dict[str, list[Root]] = {}  # by directory: where anything below it can be
    found = []
    for path in paths:
        if (holder := os.path.dirname(path)) not in above:
            above[holder] = [upper for upper in changed if holder == "/" or _decides(upper, holder)]
        if any(_decides(upper, path) for upper in above[holder]):
            found.append(path)
    return found


def _uppers(environment: Environment) -> Iterator[Root]:
    for path in environment.uppers():
        with suppress(FileNotFoundError):
            yield Root(path)


def _decides(upper: Root, path: str) -> bool:
    """Whether anything is there, or a link replaces a directory above it."""
    try:
        upper.status(path)
    except OSError as error:
        return error.errno == errno.ELOOP
    return True


def check_release(store: Store, environment: Environment) -> None:
    """Raise SysenvError if an environment in that store was made on another release of a distribution than this host's.

    What an earlier version has made does not tell.
    """
    from sysenv_ns.host import release

    known = read(environment.path)
    text = reader.get(path_of(store, known.packages) / RELEASE.lstrip("/")) if known else None
    if text is None:
        return
    theirs, ours = release.name(release.parsed(text.decode("utf-8", "replace"))), release.name(release.fields())
    if theirs != ours:
        raise SysenvError(
            f"{environment.name} was made on {theirs}, this system is {ours}",
            "run it on a machine of that release: its packages may not work here",
        )


def adopt(store: Store, directory: Path) -> str:
    """Keep the state of another host, which is moved here; its key is new, so that it differs from all others.

    The caller syncs the file system. Raises OSError.
    """
    key = f"{os.urandom(_ADOPTED // 2).hex()}{_OF_ROOT if os.geteuid() == 0 else ''}"
    path = path_of(store, key)
    _check_parent(path)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    os.utime(directory)  # young, until an environment names it
    os.rename(directory, path)
    return key


def _is_adopted(key: str) -> bool:
    return len(key.removesuffix(_OF_ROOT)) == _ADOPTED


def _check_parent(path: Path) -> None:
    """Root must not follow a link out of a user's store. Raises OSError."""
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path.parent))


def collect(store: Store) -> None:
    """Delete the states that neither an environment, be it a removed one, nor a frozen layer names."""
    from sysenv_ns.environment import removed, uppers
    from sysenv_ns.files import removal

    if not store.layers.is_dir():  # nothing was ever made here
        return
    # Before a look at what there is: what has been made meanwhile is there by then.
    building = transaction.is_building(store.trash)
    with uppers.locked(store):  # no environment is being removed or restored meanwhile
        frozen = [path for path in store.layers.iterdir() if path.is_dir()]
        former = [found.path for found in removed.all_of(store.removed)]
        directories = [*(store.envs / name for name in store.names()), *former, *frozen]
        latest = time.time() - _YOUNG if building or directories else math.inf
        named = {key for path in directories if (o := read(path)) for key in (o.packages, o.accounts)}
    for directory in (store.path / ORIGINS, store.path / ORIGINS_OF_ROOT):
        with suppress(FileNotFoundError):
            for entry in [] if directory.is_symlink() else list(os.scandir(directory)):
                if entry.name not in named and entry.stat().st_mtime <= latest:
                    with suppress(OSError):
                        removal.delete(Path(entry.path))


def content(path: str) -> bytes | None:
    """A file of the host as environments see it; None if there is none."""
    try:
        return reader.read(path, follow=True)
    except PermissionError:
        from sysenv_ns.host import standins  # most starts take no state of the host

        return standins.content(path)
    except OSError:  # there is none, or an administrator has replaced it by something else
        return None


def own_content(environment: Environment, path: str) -> bytes | None:
    """The content of an environment's own file; None if it has no readable one."""
    upper = next((upper for upper in _uppers(environment) if _decides(upper, path)), None)
    try:
        return None if upper is None else upper.get(path)
    except OSError:
        return None


def _take(target: Path) -> None:
    from sysenv_ns.packages import dpkg

    target.mkdir(mode=0o755)
    _store(target, SIGNATURES, documents.json_of(signs.of_packages()).encode(), 0o644)
    status = content(STATUS) or b""
    _store(target, STATUS, status, 0o644)
    names = sorted(reader.names(_ALTERNATIVES))
    conffiles = [path for package in dpkg.parse_status(status).values() for path in package.conffiles]
    for path in (RELEASE, *_DATABASES, *ACCOUNTS, *(f"{_ALTERNATIVES}/{name}" for name in names), *conffiles):
        if (data := content(path)) is not None:
            _store(target, path, data, 0o644 if _is_open_to_all(path) else 0o600)
    with open(f"{target}{CHECKSUMS}", "wb") as stream:
        for name in reader.names(_INFO):
            if name.endswith(".md5sums"):
                stream.write(content(f"{_INFO}/{name}") or b"")


def _is_open_to_all(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except FileNotFoundError:  # deleted since it was read
        return False


def _store(target: Path, path: str, data: bytes, mode: int) -> None:
    place = Path(f"{target}{path}")
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
