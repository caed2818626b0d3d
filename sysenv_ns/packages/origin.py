"""Keeps what the host was when an environment began to have its own: what a later rebase compares with. Merges nothing.

    origins/KEY/         shaped like /: package databases, account files, configuration files as they were
        md5sums          the checksums of all packages' files in one
        signatures.json  of the databases of all package managers
    envs/NAME/origin.json    which of them the environment comes from, for its packages and for its accounts

All environments that come from the same state of the host share one; it is made when the first of them is, and deleted
after the last.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from sysenv_ns import policy
from sysenv_ns.host import refresh, standins
from sysenv_ns.store import Environment, Store, sync_directory, write_json

ACCOUNTS = tuple(f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid"))
# Not those of dpkg.py and debconf.py, whose import takes more time than all that a start does here.
_DPKG = "/var/lib/dpkg"
_STATUS, _ALTERNATIVES, _INFO = f"{_DPKG}/status", f"{_DPKG}/alternatives", f"{_DPKG}/info"
_DEBCONF = "/var/cache/debconf"
_DATABASES = (
    *(f"{_DPKG}/{name}" for name in ("diversions", "statoverride", "arch")),
    "/var/lib/apt/extended_states",
    *(f"{_DEBCONF}/{name}.dat" for name in ("config", "passwords", "templates")),
)
_WATCHED = (*policy.PACKAGE_DATABASES, *_DATABASES, _ALTERNATIVES, *ACCOUNTS)
CHECKSUMS = "/md5sums"
NAME = "origin.json"  # in the directory of an environment
SIGNATURES = "/signatures.json"
_OF_ROOT = "-root"
_SEEN = "drift-seen"
_YOUNG = 3600.0  # seconds for which one that nobody names is kept: an environment may just be made with it


@dataclass(frozen=True)
class Origin:
    """Of which states of the host an environment is, by their keys."""

    packages: str
    accounts: str


def current_key() -> str:
    """The key of the host's state now: a few calls of lstat(2), so that it may be asked at every start."""
    # Not hashlib: its import takes longer than all else here.
    state = zlib.crc32(repr([refresh.current(path) for path in _WATCHED]).encode())
    # What root may read, users may not, and cannot delete what it has made for them by way of sudo.
    return f"{state:08x}{_OF_ROOT if os.geteuid() == 0 else ''}"


def is_current(key: str) -> bool:
    """Whether it is the host's state now, whoever noted it."""
    return key.removesuffix(_OF_ROOT) == current_key().removesuffix(_OF_ROOT)


def path_of(store: Store, key: str) -> Path:
    """Where the state of that key is kept."""
    return store.path / ("origins-root" if key.endswith(_OF_ROOT) else "origins") / key


def read(environment: Path) -> Origin | None:
    """The origin of an environment, by its directory; None for one that has none, or a damaged one."""
    try:
        data = json.loads((environment / NAME).read_bytes())
        return Origin(str(data["packages"]), str(data["accounts"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(environment: Path, origin: Origin) -> None:
    """Note the origin of an environment. Raises OSError."""
    write_json(environment / NAME, asdict(origin))


def remember(store: Store) -> str:
    """Keep the host's state of now, if nobody has yet, and return its key. Raises OSError."""
    key = current_key()
    path = path_of(store, key)
    _check_parent(path)
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)
        return key
    import shutil  # slow to import, and not needed by a start

    path.parent.mkdir(mode=0o755, exist_ok=True)
    staging = path.with_name(f"new-{os.getpid()}")
    try:
        _take(staging)
        try:
            os.rename(staging, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # somebody else was faster
                raise
        sync_directory(path.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return key


def follow(store: Store, environment: Environment) -> None:
    """At a start: as long as an environment has no package database or accounts of its own, its are today's host's.

    Raises OSError.
    """
    origin = read(environment.path)
    if origin is None:  # made by an earlier version: nobody knows
        return
    if origin.packages == origin.accounts and is_current(origin.packages):
        return
    own_packages, own_accounts = has_databases(environment), has_accounts(environment)
    if own_packages and own_accounts:
        return
    key = remember(store)
    followed = Origin(origin.packages if own_packages else key, origin.accounts if own_accounts else key)
    if followed != origin:
        write(environment.path, followed)


def may_be_drifted(environment: Environment) -> bool:
    """Whether the host has changed since an environment's origin and nobody has looked yet what that means."""
    origin = read(environment.path)
    if origin is None or is_current(origin.packages):
        return False
    try:
        return (environment.path / _SEEN).read_text() != current_key()
    except OSError:
        return True


def note_seen(environment: Environment) -> bool:
    """Note that somebody has looked; False where that cannot be noted, as it is not ours or there is no room."""
    try:
        (environment.path / _SEEN).write_text(current_key())
    except OSError:
        return False
    return True


def has_packages(environment: Environment) -> bool:
    """Whether an environment has changed the database of dpkg."""
    return own(environment, _DPKG) is not None


def has_databases(environment: Environment) -> bool:
    """Whether an environment has changed the database of any package manager, or answers to their questions."""
    return any(own(environment, path) is not None for path in (_DPKG, _DEBCONF, *policy.PACKAGE_DATABASES))


def has_accounts(environment: Environment) -> bool:
    """Whether an environment has changed its accounts."""
    return any(own(environment, path) is not None for path in ACCOUNTS)


def own(environment: Environment, path: str) -> str | None:
    """Where an environment has what it has changed there; None when it has not."""
    places = (f"{upper}{path}" for upper in environment.uppers())
    return next((place for place in places if os.path.lexists(place)), None)


def adopt(store: Store, directory: Path) -> str:
    """Keep the state of another host, which is moved here; its key is new, so that it is taken for no other.

    Raises OSError.
    """
    key = f"{os.urandom(8).hex()}{_OF_ROOT if os.geteuid() == 0 else ''}"
    path = path_of(store, key)
    _check_parent(path)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    os.utime(directory)  # young, until an environment names it
    os.rename(directory, path)
    sync_directory(path.parent)
    return key


def _check_parent(path: Path) -> None:
    """Root must not be led out of a user's store. Raises OSError."""
    if path.parent.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path.parent))


def collect(store: Store) -> None:
    """Delete the states that no environment names, nor one as it was when its changes were frozen."""
    from sysenv_ns.kernel import removal

    frozen = list(store.layers.iterdir()) if store.layers.is_dir() else []
    directories = [*(store.envs / name for name in store.names()), *frozen]
    named = {key for path in directories if (o := read(path)) for key in (o.packages, o.accounts)}
    for directory in {path_of(store, key).parent for key in ("", _OF_ROOT)}:
        with contextlib.suppress(FileNotFoundError):
            for entry in [] if directory.is_symlink() else list(os.scandir(directory)):
                if entry.name not in named and entry.stat().st_mtime < time.time() - _YOUNG:
                    with contextlib.suppress(OSError):
                        removal.delete(Path(entry.path))


def content(path: str) -> bytes | None:
    """A file of the host as environments see it; None when there is none."""
    try:
        return _read(path)
    except PermissionError:
        return standins.content(path)
    except OSError:  # there is none, or an administrator has replaced it by something else
        return None


def own_content(environment: Environment, path: str) -> bytes | None:
    """What an environment has in a file of its own; None when it has none there that can be read."""
    place = own(environment, path)
    try:
        return None if place is None else _read(place, os.O_NOFOLLOW)
    except OSError:
        return None


def _read(path: str, flags: int = 0) -> bytes | None:
    """A regular file alone: of what an environment can put there instead, a named pipe has no end. Raises OSError."""
    with open(path, "rb", opener=lambda name, usual: os.open(name, usual | os.O_NONBLOCK | flags)) as stream:
        return stream.read() if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else None


def _take(target: Path) -> None:
    from sysenv_ns.packages import dpkg

    target.mkdir(mode=0o755)
    _store(target, SIGNATURES, json.dumps(refresh.package_signs()).encode(), 0o644)
    status = content(_STATUS) or b""
    _store(target, _STATUS, status, 0o644)
    names = sorted(_names(_ALTERNATIVES))
    conffiles = [path for package in dpkg.parse_status(status).values() for path in package.conffiles]
    for path in (*_DATABASES, *ACCOUNTS, *(f"{_ALTERNATIVES}/{name}" for name in names), *conffiles):
        if (data := content(path)) is not None:
            _store(target, path, data, 0o644 if _is_public(path) else 0o600)
    with open(f"{target}{CHECKSUMS}", "wb") as stream:
        for name in _names(_INFO):
            if name.endswith(".md5sums"):
                stream.write(content(f"{_INFO}/{name}") or b"")


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _is_public(path: str) -> bool:
    return bool(os.stat(path).st_mode & stat.S_IROTH)


def _store(target: Path, path: str, data: bytes, mode: int) -> None:
    place = Path(f"{target}{path}")
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
