"""Where everything lives: directories, names, locks; it runs and mounts nothing.

STORE/base/KEY/LAYER/     base layers, see base.py
STORE/envs/NAME/          env.json, upper/, work/, root/ (the mount point), lock, state.json, origin.json
STORE/layers/ID/          frozen changes, in the directory of the environment that they were of, see layers.py
STORE/origins/KEY/        what the host was when environments began to have their own, see origin.py
STORE/shims/NAME/         a script for each of its programs, for PATH, see shims.py
STORE/removed/            environments that were removed and can be restored, see removed.py
STORE/trash/              what is being deleted

What env.json says: description.py. What root makes for a user by way of sudo lies in a store of its own: rootstore.py.
"""

from __future__ import annotations

import errno
import os
import stat

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import contextmanager, opened, suppress
from sysenv_ns.environment import directory, transaction
from sysenv_ns.environment.description import Environment, read_description, write_description
from sysenv_ns.environment.directory import is_name
from sysenv_ns.errors import NameTaken, SysenvError, reason
from sysenv_ns.files import locks
from sysenv_ns.files.reader import is_directory
from sysenv_ns.files.replacement import write_whole
from sysenv_ns.kernel import ownership, remedies
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from sysenv_ns.environment.removed import Removed

# Backups leave out what has it (https://bford.info/cachedir/): bases are made anew, and others' files are in them.
_CACHE_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# This directory is a cache of sysenv-ns: what environments share, made from the files of this system.
"""
_SHOWN = 200  # characters of a name in a message
_DEFAULT_ACL = "system.posix_acl_default"


def check_name(name: str, what: str = "an environment") -> str:
    """Return `name` if it may name an environment (or `what` else), else raise SysenvError."""
    if not is_name(name):
        raise SysenvError(
            f"{_shown(name)} is not a valid name for {what}",
            "use letters, digits, '.', '_' and '-', at most 100, not starting with '.' or '-'",
            exit_status=2,
        )
    return name


def _shown(name: str) -> str:
    """A name in a message, which is not to be as long as somebody's file wants it."""
    return repr(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!r}..."


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

    def add(self, environment: Environment, staging: Path, durable: bool = True) -> None:
        """Make the environment prepared in `staging` visible under its name, all at once, for good if `durable`.

        Raises SysenvError.
        """
        write_description(staging, environment, durable)
        try:
            transaction.publish(staging, environment.path, durable)
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
        with opened(descriptor):
            try:
                same = os.path.samestat(os.fstat(descriptor), os.stat(path))
            except FileNotFoundError:
                same = False
            if not same:
                raise self.unknown(name)
            yield
