"""PURE: the host's mounts and top-level directories + policy -> which trees are mirrored and what is mounted where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sysenv_ns import mountinfo, policy
from sysenv_ns.mountinfo import Mount, is_below
from sysenv_ns.policy import TreePolicy

EntryKind = Literal["directory", "file", "symlink", "socket", "other"]


@dataclass(frozen=True)
class Entry:
    """A directory entry of the host: its path below the surveyed directory, kind and size in bytes."""

    path: str
    kind: EntryKind
    size: int = 0


@dataclass(frozen=True)
class Host:
    """What the plan depends on, as the surveyor found it (see survey.py)."""

    mounts: tuple[Mount, ...]
    top: tuple[Entry, ...]  # of /
    home: str  # absolute, symbolic links resolved
    stores: tuple[str, ...]  # those of policy.HOST_STORES that exist
    mounted_files: frozenset[str] = frozenset()  # mount points that are not directories


@dataclass(frozen=True)
class Tree:
    """One host tree to mirror into one base layer."""

    policy: TreePolicy
    stops: frozenset[str]  # directories that stay empty: another layer or a mount provides their content
    blocked: frozenset[str]  # directories with a mount below: overlayfs refuses them as a data-only lower

    @property
    def path(self) -> str:
        """The host directory."""
        return self.policy.path


def overlaid_directories(host: Host) -> tuple[str, ...]:
    """The real directories in / whose writes belong to the environment."""
    return tuple(
        f"/{entry.path}"
        for entry in host.top
        if entry.kind == "directory" and policy.OVERLAID.fullmatch(entry.path)
    )


def bound_paths(host: Host) -> tuple[str, ...]:
    """The paths that show the host's own content inside: outermost only, in order."""
    overlaid = overlaid_directories(host)
    paths = [f"/{entry.path}" for entry in host.top if _bound_at_top(entry)]
    paths += host.stores
    paths += [m.point for m in mountinfo.visible(host.mounts) if _is_foreign(m, host, overlaid)]
    paths.append(host.home)
    return outermost(path for path in paths if path != "/")


def _bound_at_top(entry: Entry) -> bool:
    if entry.kind == "directory":
        return not policy.OVERLAID.fullmatch(entry.path) and entry.path not in policy.PRIVATE
    return entry.kind == "file" and entry.size > policy.MEBIBYTE


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Sorted, without those below another one."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(is_below(path, other) for other in kept):
            kept.append(path)
    return tuple(kept)


def _is_foreign(mount: Mount, host: Host, overlaid: Sequence[str]) -> bool:
    """Whether a mount lies in a system directory and is not part of the system itself."""
    holder = next((d for d in overlaid if mount.point == d or is_below(mount.point, d)), None)
    if holder is None or holder == "/etc" or mount.point.startswith("/etc/"):
        return False  # /etc is copied through the mounts, so that packages may replace what is mounted there
    return not is_system_data(mount) or mount.point in host.mounted_files


def is_system_data(mount: Mount) -> bool:
    """Whether a mount below a system directory is a disk of the system (/usr, /var/log ...), not a guest there.

    A bind mount shows as a disk with a root other than /; so does a btrfs subvolume, which is none.
    """
    return mount.fstype in policy.DISK_FILESYSTEMS and (mount.root == "/" or mount.fstype == "btrfs")


def trees(host: Host) -> tuple[Tree, ...]:
    """The trees to mirror, in the order of the overlay's lowers."""
    directories = set(overlaid_directories(host))
    bound = bound_paths(host)
    present = [t for t in policy.TREES if t.path == "/" or f"/{t.path.split('/')[1]}" in directories]
    stops = frozenset({*bound, *(f"/{name}" for name in policy.PRIVATE), *(t.path for t in present)})
    # A store of the host may get mounts at any moment (docker starting a container): as if it had one already.
    points = {mount.point for mount in host.mounts} | set(host.stores)
    blocked = frozenset(ancestor for point in points for ancestor in _ancestors(point))
    return tuple(
        Tree(t, _relevant(stops - {t.path}, t.path), _relevant_blocked(blocked, t.path)) for t in present
    )


def _relevant(paths: Iterable[str], tree: str) -> frozenset[str]:
    return frozenset(path for path in paths if is_below(path, tree))


def _relevant_blocked(paths: Iterable[str], tree: str) -> frozenset[str]:
    return frozenset(p for p in paths if p == tree or is_below(p, tree) or is_below(tree, p) or p == "/")


def _ancestors(path: str) -> Iterator[str]:
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def data_root(directory: str, blocked: frozenset[str]) -> str | None:
    """The data-only lower that serves the files of `directory`: its topmost ancestor without mounts below."""
    chain = [directory, *_ancestors(directory)]
    return next((path for path in reversed(chain) if path not in blocked), None)


def copy_limit(path: str) -> int:
    """Up to which size (bytes) the files of directory `path` are copied into the base instead of stubbed."""
    chain = [path, *_ancestors(path)]
    return next((policy.COPY_LIMITS[p] for p in chain if p in policy.COPY_LIMITS), policy.BLOCK)
