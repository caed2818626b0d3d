"""PURE: the host's mounts and top-level directories + policy -> which trees are mirrored and what is mounted where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from sysenv_ns import policy
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.mountinfo import Mount, ancestors, is_below
from sysenv_ns.kernel.operations import Bind, Directory, File, Operation, Overlay, Symlink, Tmpfs
from sysenv_ns.policy import TreePolicy
from sysenv_ns.upper import uppers
from sysenv_ns.upper.fuse import FuseOverlay

EntryKind = Literal["directory", "file", "symlink", "socket", "other"]


@dataclass(frozen=True)
class Entry:
    """A directory entry of the host: its path below the surveyed directory, kind and size in bytes."""

    path: str
    kind: EntryKind
    size: int = 0


@dataclass(frozen=True)
class RunEntry:
    """Something in /run: its path below it, permissions, owner as it shall be inside, and its content."""

    path: str
    kind: EntryKind
    mode: int
    uid: int
    gid: int
    live: bool = False  # a directory to bind whole
    content: bytes = b""  # of a file, or the destination of a symbolic link


@dataclass(frozen=True)
class Host:
    """What the plan depends on, as the surveyor found it (see survey.py)."""

    mounts: tuple[Mount, ...]
    top: tuple[Entry, ...]  # of /
    home: str  # absolute, symbolic links resolved
    stores: tuple[str, ...]  # those of policy.HOST_STORES that exist, and what else is kept
    run: tuple[RunEntry, ...] = ()  # of /run, parents first
    mounted_files: frozenset[str] = frozenset()  # what is mounted or to be bound and is no directory
    unreachable: frozenset[str] = frozenset()  # mount points in directories that the user cannot enter
    missing_trees: frozenset[str] = frozenset()  # those of policy.TREES that are no directories here
    bound: tuple[str, ...] = ()  # as the user wishes
    overlaid: frozenset[str] = frozenset()  # as the user wishes

    @cached_property
    def visible(self) -> tuple[Mount, ...]:
        """The mounts that a path can reach."""
        return mountinfo.visible(self.mounts)

    @cached_property
    def automounts(self) -> frozenset[str]:
        """Where an automounter has its triggers; what lies on them comes and goes with its use."""
        return frozenset(mount.point for mount in self.mounts if mount.fstype == "autofs")


@dataclass(frozen=True)
class Places:
    """Absolute paths, without symbolic links, whose treatment is not left to the policy."""

    kept: tuple[str, ...] = ()  # directories to bind, which must be in no data-only lower
    bound: tuple[str, ...] = ()
    overlaid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tree:
    """One host tree to mirror into a base layer."""

    path: str
    policy: TreePolicy
    stops: frozenset[str]  # what stays empty: another tree or a mount provides its content
    blocked: frozenset[str]  # directories with a mount below: overlayfs refuses them as a data-only lower
    copied: frozenset[str] = frozenset()  # in and below these nothing can be a data-only lower


@dataclass(frozen=True)
class LayerPlan:
    """One base layer: the trees that it holds, outer before inner ones."""

    name: str
    trees: tuple[Tree, ...]


def overlaid_directories(host: Host) -> tuple[str, ...]:
    """The real directories in / whose writes belong to the environment."""
    return tuple(f"/{entry.path}" for entry in host.top if entry.kind == "directory" and _is_overlaid(entry, host))


def _is_overlaid(entry: Entry, host: Host) -> bool:
    return policy.OVERLAID.fullmatch(entry.path) is not None or f"/{entry.path}" in host.overlaid


def bound_paths(host: Host) -> tuple[str, ...]:
    """The paths that show the host's own content inside: outermost only, in order."""
    overlaid = overlaid_directories(host)
    paths = [f"/{entry.path}" for entry in host.top if _bound_at_top(entry, host)]
    paths += (*host.stores, *host.bound)
    paths += [m.point for m in host.visible if _is_foreign(m, host, overlaid)]
    paths.append(host.home)
    return outermost(path for path in paths if path != "/")


def hosts_own(host: Host) -> tuple[str, ...]:
    """What shows the host's own content inside, down to the directories in /run that are bound whole."""
    return (*bound_paths(host), *(f"/run/{entry.path}" for entry in host.run if entry.live))


def _bound_at_top(entry: Entry, host: Host) -> bool:
    if entry.kind == "directory":
        return not _is_overlaid(entry, host) and entry.path not in policy.PRIVATE
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
    if holder is None or mount.point in host.unreachable:
        return False
    if holder == "/etc" and mount.point not in host.automounts:
        return False  # it is copied through the mounts, so that packages may replace what is mounted there
    return not is_system_data(mount, host)


def is_system_data(mount: Mount, host: Host) -> bool:
    """Whether a mount below a system directory is a part of the system (/usr, /var/log ...), not a guest there.

    A bind mount shows as a disk with a root other than /; so does a btrfs subvolume, which is none. One of a whole
    system directory is how image-based systems mount their /usr and /var.
    """
    if mount.point in host.automounts or mount.point in host.mounted_files:
        return False
    if any(path == mount.point or is_below(path, mount.point) for path in (*policy.WRITTEN, *host.overlaid)):
        return True
    whole = mount.root == "/" or mount.fstype == "btrfs" or mount.point in policy.TREES
    return mount.fstype in policy.DISK_FILESYSTEMS and (whole or policy.OVERLAID.fullmatch(mount.point[1:]) is not None)


def layers(host: Host) -> tuple[LayerPlan, ...]:
    """The base layers with their trees, uppermost first."""
    directories = overlaid_directories(host)
    possible = (path for path in policy.TREES if path not in host.missing_trees)
    inner = [path for path in possible if any(is_below(path, directory) for directory in directories)]
    # /usr first: the stubs of the first data-only lower depend on no other one, so /usr is rarely mirrored anew.
    bound = bound_paths(host)
    own = {path for path in (*directories, *inner) if path not in bound and not any(is_below(path, b) for b in bound)}
    paths = sorted({"/", *own}, key=lambda path: (path.split("/")[1] != "usr", path))
    every_directory = (f"/{entry.path}" for entry in host.top if entry.kind == "directory")
    stops = frozenset({*bound, *paths, *every_directory})
    # A store of the host may get mounts at any moment (docker starting a container): as if it had one already.
    points = {mount.point for mount in host.mounts} | {*host.stores, host.home}
    blocked = frozenset(ancestor for point in points for ancestor in ancestors(point))
    copied = second_sights(host)
    own_layers = policy.COPIED_LAYERS.items()
    plans = [LayerPlan(name, (_tree(path, stops, blocked, copied),)) for name, path in own_layers]
    stubbed = (
        _tree(path, stops, blocked, copied, path in host.overlaid)
        for path in paths
        if path not in dict(own_layers).values()
    )
    return (*plans, LayerPlan("stubs", tuple(stubbed)))


def second_sights(host: Host) -> frozenset[str]:
    """Where a disk of the system shows what another place of it shows too: overlayfs refuses overlapping layers."""
    points = {*overlaid_directories(host), *(mount.point for mount in further_mounts(host))}
    found: list[tuple[str, str, str]] = []  # path on the disk, disk, point
    for point in points:
        device, path = _place(point, host)
        if device:
            found.append((path, device, point))
    found.sort()  # what holds another one comes first
    return frozenset(
        point
        for number, (path, device, point) in enumerate(found)
        if any(
            _overlap(outer, path, outer_point, point) for outer, disk, outer_point in found[:number] if disk == device
        )
    )


def _overlap(outer: str, path: str, outer_point: str, point: str) -> bool:
    """Whether two places show the same directory, other than one below the other as on the disk itself."""
    if path != outer and not is_below(path, outer):
        return False
    return point != f"{outer_point}{path[len(outer.rstrip('/')) :]}"


def _tree(
    path: str, stops: frozenset[str], blocked: frozenset[str], copied: frozenset[str], wished: bool = False
) -> Tree:
    """The tree with what concerns it: what changes elsewhere must not make it stale."""
    return Tree(
        path,
        policy.TREES.get(path, policy.WISHED if wished else policy.OTHER_TREES),
        stops=frozenset(outermost(p for p in stops if is_below(p, path))) if path != "/" else stops - {"/"},
        blocked=frozenset(p for p in blocked if p in ("/", path) or is_below(p, path) or is_below(path, p)),
        copied=frozenset(p for p in copied if p == path or is_below(p, path) or is_below(path, p)),
    )


def data_root(directory: str, blocked: frozenset[str]) -> str | None:
    """The data-only lower that serves the files of `directory`: its topmost ancestor without mounts below."""
    chain = [directory, *ancestors(directory)]
    return next((path for path in reversed(chain) if path not in blocked), None)


def copy_limit(path: str) -> int:
    """Up to which size (bytes) the files of directory `path` are copied into the base instead of stubbed."""
    chain = [path, *ancestors(path)]
    return next((policy.COPY_LIMITS[p] for p in chain if p in policy.COPY_LIMITS), policy.BLOCK)


@dataclass(frozen=True)
class Root:
    """What the root of one environment is put together from (paths of the host)."""

    source: str
    lowers: tuple[str, ...]  # uppermost first; the host's / for the driver root
    data_roots: tuple[str, ...]
    directory: str  # the environment's: upper/, work/, and mounts/ for further overlays
    unprivileged: bool
    fuse: bool = False  # served by fuse-overlayfs instead of the kernel
    # By what is mounted: the environment's frozen layers, uppermost first.
    frozen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def plan(host: Host, root: Root) -> tuple[Operation, ...]:
    """Everything that is mounted or made for a session, in order; the first operation is the root itself."""
    upper, work = f"{root.directory}/upper", f"{root.directory}/work"
    overlay: Operation
    lowers = (*root.frozen.get("/", ()), *root.lowers)
    if root.fuse:
        overlay = FuseOverlay("/", root.source, lowers, upper, work)
    else:
        apart = _apart(host, root, "/")
        overlay = Overlay("/", root.source, lowers, root.data_roots, upper, work, root.unprivileged, apart)
    further = () if root.unprivileged else tuple(_further_overlays(host, root))
    etc = () if root.unprivileged else tuple(_etc_binds(host))
    return (overlay, *further, *_binds(host, root.unprivileged), *etc, *_run(host.run))


def further_mounts(host: Host) -> tuple[Mount, ...]:
    """The disks of the system below / that, where no base layer merges them, need an overlay each: outer ones first."""
    overlaid = overlaid_directories(host)
    bound = bound_paths(host)
    inside = [m for m in host.visible if any(m.point == d or is_below(m.point, d) for d in overlaid)]
    return tuple(
        mount
        for mount in sorted(inside, key=lambda m: m.point)
        if is_system_data(mount, host) and not any(mount.point == b or is_below(mount.point, b) for b in bound)
    )


def _further_overlays(host: Host, root: Root) -> Iterator[Overlay]:
    for mount in further_mounts(host):
        directory = f"{root.directory}/{uppers.directory(mount.point)}"
        upper, work = f"{directory}/upper", f"{directory}/work"
        lowers = (*root.frozen.get(mount.point, ()), mount.point)
        apart = _apart(host, root, mount.point)
        yield Overlay(mount.point, root.source, lowers, (), upper, work, root.unprivileged, apart)


def _apart(host: Host, root: Root, point: str) -> str:
    """Where the host's directory at a mount point is to be mounted apart, if its overlay needs that; or ""."""
    frozen = root.frozen.get(point, ())
    if root.unprivileged or not any(_lies_in(path, point, host) for path in frozen):
        return ""
    return f"{root.directory}/root"


def _lies_in(path: str, outer: str, host: Host) -> bool:
    """Whether a directory lies in another one on their disk, wherever that is mounted."""
    (disk, place), (outer_disk, outer_place) = _place(path, host), _place(outer, host)
    return disk == outer_disk and (place == outer_place or is_below(place, outer_place))


def _place(path: str, host: Host) -> tuple[str, str]:
    """The disk that a path of the host lies on, and its path there."""
    mount = mountinfo.containing(path, host.visible)
    if mount is None:
        return "", path
    return mount.device, f"{mount.root.rstrip('/')}{path[len(mount.point.rstrip('/')) :]}" or "/"


def _binds(host: Host, unprivileged: bool) -> Iterator[Bind]:
    kinds = {f"/{entry.path}": entry.kind for entry in host.top}
    own = (*host.stores, *host.bound, host.home)  # written to by programs, wherever they lie
    foreign = {
        m.point
        for m in host.mounts
        if _is_foreign(m, host, overlaid_directories(host))
        and not any(path == m.point or is_below(path, m.point) for path in own)
    }
    for path in bound_paths(host):
        directory = kinds.get(path, "directory") == "directory" and path not in host.mounted_files
        # For real root nothing else protects what is mounted below a system directory (/boot/efi).
        yield Bind(path, path, directory, readonly=not unprivileged and path in foreign)


def _etc_binds(host: Host) -> Iterator[Bind]:
    """For the driver root: the overlay over / shows what lies below these mounts, in a container empty files."""
    bound = bound_paths(host)
    for mount in host.visible:
        if is_below(mount.point, "/etc") and not is_system_data(mount, host) and mount.point not in bound:
            yield Bind(mount.point, mount.point, mount.point not in host.mounted_files, readonly=True)


def _run(entries: Iterable[RunEntry]) -> Iterator[Operation]:
    """A /run of the environment's own: scripts may write there; the host's sockets and live directories show in it."""
    yield Tmpfs("/run", 0o755)
    for entry in entries:
        target = f"/run/{entry.path}"
        if entry.live or entry.kind == "socket":
            if entry.live:
                yield Directory(target, 0o755, 0, 0)
            else:
                yield File(target, 0o600, 0, 0, b"")
            yield Bind(target, target, directory=entry.live)
        elif entry.kind == "directory":
            yield Directory(target, entry.mode, entry.uid, entry.gid)
        elif entry.kind == "symlink":
            yield Symlink(target, entry.content.decode("utf-8", "surrogateescape"))
        elif entry.kind == "file":
            yield File(target, entry.mode, entry.uid, entry.gid, entry.content)
