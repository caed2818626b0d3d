"""PURE: which trees are mirrored and what is mounted where, from the host's mounts, top directories and policy."""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.basics import cached_property
from sysenv_ns.host.run_directory import EntryKind, RunEntry
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.mountinfo import Mount, ancestors, is_below
from sysenv_ns.kernel.operations import Bind, Directory, Operation, Symlink, Tmpfs
from sysenv_ns.policy import TreePolicy
from sysenv_ns.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sysenv_ns.kernel.overlay import UnionMount


def is_of_environment(path: str, bound: Iterable[str]) -> bool:
    """Whether a real path inside is the environment's own, with these binds beside the usual ones, and in no home."""
    top = path.split("/")[1]
    if top == "root" or top not in policy.OVERLAID:
        return False
    return not any(path == place or is_below(path, place) for place in (*bound, *policy.HOST_STORES))


@dataclass(frozen=True)
class HostEntry:
    """A directory entry of the host: its path below the surveyed directory, kind and size in bytes."""

    path: str
    kind: EntryKind
    size: int = 0


@dataclass(frozen=True)
class Host:
    """What the plan depends on, as the surveyor found it (see survey.py)."""

    mounts: tuple[Mount, ...]
    top: tuple[HostEntry, ...]  # of /
    home: str  # absolute, symbolic links resolved
    stores: tuple[str, ...]  # those of policy.HOST_STORES that exist, and what else is kept
    run: tuple[RunEntry, ...] = ()  # of /run, parents first
    mounted_files: frozenset[str] = frozenset()  # what is mounted or to be bound and is no directory
    unreachable: frozenset[str] = frozenset()  # mount points in directories that the user cannot enter
    missing_trees: frozenset[str] = frozenset()  # those of policy.TREES that are no directories here
    bound: tuple[str, ...] = ()  # as the user wishes
    overlaid: frozenset[str] = frozenset()  # as the user wishes
    # Directories that are not mirrored, because mounts of root's show them to the user: where.
    mapped: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def visible(self) -> tuple[Mount, ...]:
        """The mounts that a path can reach."""
        return mountinfo.visible(self.mounts)

    @cached_property
    def system_directories(self) -> tuple[str, ...]:
        """The real directories in / in which writes belong to the environment."""
        entries = (entry for entry in self.top if entry.kind == "directory" and _is_overlaid(entry, self))
        return tuple(f"/{entry.path}" for entry in entries)

    @cached_property
    def bound_paths(self) -> tuple[str, ...]:
        """The paths that show the host's own content inside: outermost only, in order."""
        paths = [f"/{entry.path}" for entry in self.top if _bound_at_top(entry, self)]
        paths += (*self.stores, *self.bound)
        paths += [m.point for m in self.visible if _is_foreign(m, self)]
        paths.append(self.home)
        return outermost(path for path in paths if path != "/")

    @cached_property
    def disks(self) -> tuple[Mount, ...]:
        """The disks of the system below / that each need an overlay if no base layer merges them: outer ones first."""
        directories, bound = self.system_directories, self.bound_paths
        inside = [m for m in self.visible if any(m.point == d or is_below(m.point, d) for d in directories)]
        return tuple(
            mount
            for mount in sorted(inside, key=lambda m: m.point)
            if is_system_data(mount, self) and not any(mount.point == b or is_below(mount.point, b) for b in bound)
        )

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The paths with the host's own content inside, including the directories in /run that are bound as a whole."""
        return (*self.bound_paths, *(f"/run/{entry.path}" for entry in self.run if entry.live))

    @property
    def wishes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The paths to bind and those to overlay, besides the policy's."""
        return self.bound, tuple(self.overlaid)

    @cached_property
    def automounts(self) -> frozenset[str]:
        """The directories of an automounter's triggers; the mounts on them come and go with their use."""
        return frozenset(mount.point for mount in self.mounts if mount.fstype == "autofs")


@dataclass(frozen=True)
class Places:
    """Absolute paths, without symbolic links, that are treated differently from the policy."""

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


def _is_overlaid(entry: HostEntry, host: Host) -> bool:
    return entry.path in policy.OVERLAID or f"/{entry.path}" in host.overlaid


def _bound_at_top(entry: HostEntry, host: Host) -> bool:
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


def _is_foreign(mount: Mount, host: Host) -> bool:
    """Whether a mount lies in a system directory and is not part of the system itself."""
    holder = next((d for d in host.system_directories if mount.point == d or is_below(mount.point, d)), None)
    if holder is None or mount.point in host.unreachable:
        return False
    if holder == "/etc" and mount.point not in host.automounts:
        return False  # it is copied through the mounts, so that packages may replace what is mounted there
    return not is_system_data(mount, host)


def is_system_data(mount: Mount, host: Host) -> bool:
    """Whether a mount below a system directory is a part of the system (/usr, /var/log ...), and not foreign.

    A bind mount looks like a disk with a root other than /; so does a btrfs subvolume, which is not one. One of a whole
    system directory is how image-based systems mount their /usr and /var.
    """
    if mount.point in host.automounts or mount.point in host.mounted_files:
        return False
    if any(path == mount.point or is_below(path, mount.point) for path in (*policy.WRITTEN, *host.overlaid)):
        return True
    whole = mount.root == "/" or mount.fstype == "btrfs" or mount.point in policy.TREES
    return mount.fstype in policy.DISK_FILESYSTEMS and (whole or mount.point[1:] in policy.OVERLAID)


def layer_plans(host: Host) -> tuple[LayerPlan, ...]:
    """The base layers with their trees, uppermost first."""
    directories = host.system_directories
    possible = (path for path in policy.TREES if path not in host.missing_trees)
    inner = [path for path in possible if any(is_below(path, directory) for directory in directories)]
    # /usr first: the stubs of the first data-only lower depend on no other one, so /usr is rarely mirrored anew.
    bound = host.bound_paths
    elsewhere = {*bound, *host.mapped}
    own = {p for p in (*directories, *inner) if p not in elsewhere and not any(is_below(p, e) for e in elsewhere)}
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
    """Disks of the system that show the same directory as another place: overlayfs refuses overlapping layers."""
    points = {*host.system_directories, *(mount.point for mount in host.disks)}
    found: list[tuple[str, str, str]] = []  # path on the disk, disk, point
    for point in points:
        device, path = disk_place(point, host)
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
    """Whether two places show the same directory, except if one is below the other as on the disk itself."""
    if path != outer and not is_below(path, outer):
        return False
    return point != f"{outer_point}{path[len(outer.rstrip('/')) :]}"


def _tree(
    path: str, stops: frozenset[str], blocked: frozenset[str], copied: frozenset[str], wished: bool = False
) -> Tree:
    """The tree with the mounts that concern it: changes elsewhere must not make it stale."""
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


def left_out(path: str) -> bool:
    """Whether a file of the host is not in a base, and nobody shall miss it."""
    if is_below(path, policy.CACHES):
        import re  # for what reads the whole host: a start does not

        return re.fullmatch(policy.LEFT_OUT_CACHES, path) is not None
    return path in policy.LEFT_OUT


def copy_limit(path: str) -> int:
    """Up to which size (bytes) the files of directory `path` are copied into the base instead of stubbed."""
    chain = [path, *ancestors(path)]
    return next((policy.COPY_LIMITS[p] for p in chain if p in policy.COPY_LIMITS), policy.BLOCK)


def inline_limit(path: str) -> int:
    """The same for those of its files whose stubs take no block."""
    seldom = any(path == top or is_below(path, top) for top in policy.SELDOM_READ)
    return 0 if seldom else copy_limit(path)


def plan(host: Host, overlays: Sequence[UnionMount], protected: bool = False) -> tuple[Operation, ...]:
    """Everything that is mounted or created for a session, in order; the first of the overlays is the root itself.

    `protected`: for real root, who could otherwise write to what is mounted below system directories.
    """
    etc = _etc_binds(host) if protected else ()
    return (*overlays, *_binds(host, protected), *etc, *_run(host))


def disk_place(path: str, host: Host) -> tuple[str, str]:
    """The disk that holds a path of the host, and the path on it."""
    mount = mountinfo.containing(path, host.visible)
    if mount is None:
        return "", path
    return mount.device, f"{mount.root.rstrip('/')}{path[len(mount.point.rstrip('/')) :]}" or "/"


def _binds(host: Host, protected: bool) -> Iterator[Bind]:
    kinds = {f"/{entry.path}": entry.kind for entry in host.top}
    own = (*host.stores, *host.bound, host.home)  # written to by programs, wherever they lie
    foreign = {
        m.point
        for m in host.mounts
        if _is_foreign(m, host) and not any(path == m.point or is_below(path, m.point) for path in own)
    }
    for path in host.bound_paths:
        directory = kinds.get(path, "directory") == "directory" and path not in host.mounted_files
        # For real root nothing else protects what is mounted below a system directory (/boot/efi).
        yield Bind(path, path, directory, readonly=protected and path in foreign)


def _etc_binds(host: Host) -> Iterator[Bind]:
    """For the driver root: the overlay over / shows what these mounts cover, in a container empty files."""
    for mount in host.visible:
        if is_below(mount.point, "/etc") and not is_system_data(mount, host) and mount.point not in host.bound_paths:
            yield Bind(mount.point, mount.point, mount.point not in host.mounted_files, readonly=True)


def _run(host: Host) -> Iterator[Operation]:
    """The environment's own /run: scripts may write there; it shows the host's sockets and live directories."""
    yield Tmpfs("/run", 0o755)
    yield Directory("/run/host", 0o755, 0, 0)
    yield Symlink("/run/host/usr", "../../usr")  # links in the host's /etc lead there
    yield Directory(policy.RUN_OWN, 0o755, 0, 0)
    yield Directory(policy.OWN_SOCKETS, 0o1777, 0, 0)
    sources = (("/etc", policy.ETC_OF_HOST), ("/run", policy.RUN_OF_HOST), (policy.SOCKETS, policy.SOCKETS_OF_HOST))
    for source, target in sources:
        yield Directory(target, 0o755, 0, 0)
        yield Bind(source, target, readonly=True)
    if any(is_below(mount.point, policy.MAPPED_PLACE) for mount in host.visible):  # another view of all programs
        yield Tmpfs(f"{policy.RUN_OF_HOST}{policy.MAPPED_PLACE.removeprefix('/run')}", 0o755)
    for entry in host.run:
        if entry.bound:
            yield Directory(f"/run/{entry.path}", 0o755, 0, 0)
            yield Bind(f"/run/{entry.path}", f"/run/{entry.path}")
        elif (operation := entry.operation) is not None:
            yield operation
