"""Where the store is, and the names of everything in it and in the directory of an environment.

upper/ holds the changes to /, mounts/SLUG/upper/ those to another disk (with the driver root).
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import suppress
from sysenv_ns.errors import SysenvError
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of a store.
ENVIRONMENTS = "envs"
LAYERS = "layers"
REMOVED = "removed"  # environments that can be restored
BASES = "base"
TRASH = "trash"
ORIGINS = "origins"
CACHE_TAG = "CACHEDIR.TAG"  # in the directory of the bases
ORIGINS_OF_ROOT = "origins-root"
SHIMS = "shims"  # directories for PATH with the programs of environments
BLOBS = "blobs"  # of environments in registries
BLOB = "blob.json"  # in the directory of a frozen layer: which blob it is

SHARED_VARIABLE = "SYSENV_NS_SHARED"  # names a store that is only read, see shared.py

# Of the directory of an environment.
UPPER = "upper"
WORK = "work"
ROOT = "root"  # the mount point
MEMORY = "memory"  # where a throwaway one has a file system for its changes
DESCRIPTION = "env.json"
STATE = "state.json"
ORIGIN = "origin.json"
LINKS = "links.json"
CONFIG = "config.toml"
REGISTRY = "registry.json"  # what of it is in which registries
DRIFT_SEEN = "drift-seen"
ACCOUNTS_SEEN = "accounts-seen"
BOOT_LOG = "boot.log"  # what is said while process 1 is started, for each who waits
UPPER_LOCK = f"{UPPER}.lock"  # held by what serves the upper directory
_MOUNTS = "mounts"

LOCK = "lock"  # of an environment, of a base, of all layers

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_IN_NAMES = frozenset(f"0123456789{_LETTERS}{_LETTERS.upper()}-._")


def is_name(name: str) -> bool:
    """Whether something in the store can have this name."""
    return 0 < len(name) <= 100 and name[0] not in ".-" and _IN_NAMES.issuperset(name)


def store_location() -> Path:
    """The directory of the store for this user: $SYSENV_NS_HOME, $XDG_DATA_HOME/sysenv-ns, ~/.local/share/sysenv-ns."""
    if home := os.environ.get("SYSENV_NS_HOME"):
        return Path(os.path.abspath(home))
    data = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    if data.startswith("/"):
        return Path(data) / "sysenv-ns"
    home = os.path.expanduser("~")
    if not home.startswith("/"):  # not known, or relative to wherever one is
        hint = "set HOME to an absolute path, or SYSENV_NS_HOME to a directory of yours"
        raise SysenvError("you have no home directory", hint)
    return Path(home) / ".local" / "share" / "sysenv-ns"


def slug(point: str) -> str:
    """A name without slashes for a mount point; `listed` reverses it."""
    return point.strip("/").replace("%", "%25").replace("/", "%2F")


def further(point: str) -> str:
    """The directory for an overlay over a further disk, below the environment's."""
    return f"{_MOUNTS}/{slug(point)}"


def upper(point: str) -> str:
    """The directory of the changes to the mount at a point ("" is /), below the environment's directory."""
    return f"{further(point)}/{UPPER}" if point else UPPER


def work(point: str) -> str:
    """overlayfs' work directory for these."""
    return f"{further(point)}/{WORK}" if point else WORK


def inner_work(point: str) -> str:
    """The same for an overlay that has its changes in the upper directory of /."""
    return f"{WORK}-{slug(point)}"


def inner_points(environment: Path) -> list[str]:
    """The mount points that have such directories."""
    prefix = f"{WORK}-"
    return [_point(name.removeprefix(prefix)) for name in os.listdir(environment) if name.startswith(prefix)]


def make(path: Path) -> None:
    """Create the directories of a new environment. Raises OSError."""
    path.mkdir(mode=0o755)  # the store is closed; what root makes by way of sudo shall be readable
    for name in (UPPER, WORK, ROOT):
        (path / name).mkdir(mode=0o755)
    (path / LOCK).touch(mode=0o600)


def listed(environments: Iterable[Path]) -> dict[str, str]:
    """The results of `upper`, by mount point, for all mounts of which any of these environments has changes."""
    points = {"": None}
    for path in environments:
        with suppress(FileNotFoundError):
            points |= dict.fromkeys(_point(name) for name in sorted(os.listdir(path / _MOUNTS)))
    return {point: upper(point) for point in points}


def _point(name: str) -> str:
    return f"/{name.replace('%2F', '/').replace('%25', '%')}"
