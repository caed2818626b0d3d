"""The tables of what is overlaid, bound or copied; data only."""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from typing import Literal

UNLIMITED = 1 << 62

# An empty file of this name makes a directory opaque for fuse-overlayfs (fuse-overlayfs(1)).
FUSE_OPAQUE = ".wh..wh..opq"

# The drivers, each a module (drivers/driver.py), in the order in which they are tried for a new environment. With the
# id maps that a driver can have, the best first; where it has none, sessions are real root's.
DRIVERS: dict[str, tuple[Literal["full", "single"], ...]] = {
    "stub": ("full", "single"),
    "reflink": ("full", "single"),
    "idmap": ("full",),
    "copy": ("full", "single"),
    "fuse": ("single",),
    "root": (),
}

# What root shows to a user, read-only, for the driver idmap: directories that hold programs, and nobody's secrets.
MAPPED = ("/usr", "/opt")
MAPPED_PLACE = "/run/sysenv-ns"  # where: below it, in the directory of that user

# Top-level directories of the file hierarchy standard whose writes belong to the environment. Everything
# else in / is the host's own (/home, /data, /nix, /snap ...), except /run, which is private.
OVERLAID = frozenset(
    ("bin", "boot", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "opt", "root", "sbin", "srv", "usr", "var")
)
PRIVATE = frozenset({"run"})

# Below the overlaid directories: scratch space, large stores that a daemon of the host owns, and what the tool itself
# keeps for users as root (rootstore.py).
HOST_STORES = (
    "/var/tmp",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/flatpak",
    "/var/lib/machines",
    "/var/lib/snapd",
    "/var/lib/sss/mc",  # the name service's answers in memory, which expire
    "/var/lib/sysenv-ns/users",
    "/var/log/journal",
)

# The same below a user's home, whose files belong to subordinate ids for good.
STORES_IN_HOME = (
    *(".local/share/containers", ".local/share/docker", ".local/share/incus", ".local/share/lxc"),
    ".local/share/sysenv-ns",
)

# File systems that hold system data when mounted below a system directory. All others there are foreign
# (tmpfs, FUSE, NFS, squashfs images, other overlays) and are bound, unless they hold one of the places below.
DISK_FILESYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "nilfs2", "bcachefs"})

# What every installation writes to: a file system that holds one of these is the system's, of whatever type it is (a
# tmpfs on /var/log, an overlay that an extension image puts on /usr).
WRITTEN = (
    *("/usr/bin", "/usr/lib", "/usr/share", "/var/cache/apt/archives", "/var/cache/debconf", "/var/cache/dnf"),
    *("/var/cache/pacman/pkg", "/var/lib/apk", "/var/lib/apt/lists", "/var/lib/dpkg", "/var/lib/pacman"),
    *("/var/lib/rpm", "/var/log", "/var/spool"),
)

# Where an environment keeps the variables of its sysenv.toml, as a JSON object; in it, so that they go along.
VARIABLES_INSIDE = "/var/lib/sysenv-ns/variables.json"

# Files up to this size (bytes) are copied into the base: on ext4 a stub's attributes take a block anyway, unless its
# redirect is so short that it has room in an inode of 256 bytes, beside the 36 that it takes in addition to its length.
BLOCK = 4096
INLINE = 56
# Where small files are stubs too if these take no block: few are read, and no program depends on their version.
SELDOM_READ = ("/usr/include", *(f"/usr/share/{name}" for name in ("doc", "icons", "info", "locale", "man")))
MEBIBYTE = 1 << 20
# Per directory tree, the longest prefix decides. What the host keeps changing is copied whole: a stub would lie.
COPY_LIMITS = {
    "/etc": UNLIMITED,
    "/lib/apk": UNLIMITED,
    "/usr/lib/apk": UNLIMITED,
    "/usr/lib/sysimage": UNLIMITED,
    "/var": MEBIBYTE,
    "/var/cache/apt": UNLIMITED,
    "/var/cache/debconf": UNLIMITED,
    "/var/cache/dnf": BLOCK,
    "/var/lib/apk": UNLIMITED,
    "/var/lib/apt": UNLIMITED,
    "/var/lib/dpkg": UNLIMITED,
    "/var/lib/pacman": UNLIMITED,
    "/var/lib/rpm": UNLIMITED,
    "/var/log": UNLIMITED,
}
# A host mount splits a data-only lower: its siblings become one each. overlayfs takes 500 layers, and searches them
# one by one for the data of a stub; the files of smaller directories beyond this number are copied.
DATA_ROOTS = 128
# So many frozen layers an environment may have before they are merged into one. overlayfs takes 500, but searches them
# one by one for what is in none of them; and before Linux 6.13 the names of all of them must have room in 255 bytes.
LAYERS = 32
# For so many hours a removed environment can be restored, unless config.toml says otherwise.
KEEP_REMOVED = 24
# Logs above this size (bytes) are left empty: a copy would cost gigabytes, a stub would lie when the log grows.
LOG_LIMIT = MEBIBYTE
LOGS = "/var/log"

# Locks whose holder lives on the host: in an environment they would be held for ever (lckpwdf(3), shadow's commonio).
LEFT_OUT = frozenset(f"/etc/{name}.lock" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid"))
# Caches that nobody misses: packages as they were downloaded, which can be gigabytes, and an index that apt makes anew
# from srcpkgcache.bin beside it whenever dpkg's database has changed: each environment has one of its own soon.
CACHES = "/var/cache"
LEFT_OUT_CACHES = r"(?s:/var/cache/(apt/pkgcache\.bin|.+\.(apk|deb|rpm|pkg\.tar(\.[a-z0-9]+)?(\.sig)?)))"
# What is not sent to registries either, as all of it changes with each package: indexes that apt, and man-db for whatis
# and apropos, make anew with the next installation; and apt's record of its last plan, by which its faults are found.
NOT_PUSHED = rf"(?s:{LEFT_OUT_CACHES}|/var/cache/(apt/srcpkgcache\.bin|man/.+)|/var/log/apt/eipp\.log\.xz)"

# dpkg's record of what is installed.
DPKG_STATUS = "/var/lib/dpkg/status"

# What package managers touch with every change: when one of these differs, the base is out of date.
PACKAGE_DATABASES = (
    "/lib/apk/db/installed",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    DPKG_STATUS,
    "/var/lib/pacman/local",
    "/var/lib/rpm/Packages",
    "/var/lib/rpm/rpmdb.sqlite",
)

# What a package manager holds locked while it changes its database (fcntl(2)), and what is there only meanwhile.
PACKAGE_LOCKS = (
    "/lib/apk/db/lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/var/lib/dpkg/lock",
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/rpm/.rpm.lock",
)
PACKAGE_JOURNALS = ("/var/lib/dpkg/updates", "/var/lib/pacman/db.lck")

# What nearly every change of the host's programs touches: a look at these tells a session that joins.
SIGNS = (*PACKAGE_DATABASES, "/opt", "/usr/bin", "/usr/lib", "/usr/local/bin", "/usr/local/lib")


@dataclass(frozen=True)
class TreePolicy:
    """What tells that the mirror of a host tree is out of date."""

    weight: int  # its usual share of the time of a build
    watch_depth: int = 0  # directories up to this depth below it
    watch_files: bool = False  # the files in these directories too
    watch_stubs: bool = False  # the data behind every stub
    watch_packages: bool = True  # the databases above


TREES = {
    "/": TreePolicy(weight=1, watch_files=True, watch_packages=False),
    "/etc": TreePolicy(weight=3, watch_depth=99, watch_files=True, watch_packages=False),
    "/opt": TreePolicy(weight=5, watch_depth=99),
    "/usr": TreePolicy(weight=80, watch_depth=2),
    "/usr/local": TreePolicy(weight=5, watch_depth=99),
    "/var": TreePolicy(weight=6, watch_stubs=True),
}
# What the user wants overlaid: people change it by hand, without a package manager.
WISHED = TreePolicy(weight=5, watch_depth=99, watch_stubs=True, watch_packages=False)
OTHER_TREES = TreePolicy(weight=1, watch_depth=2)

# The base layers that hold no stubs; all other trees share the lowest one. It must be one, and the lowest:
# overlayfs goes on from a stub to the layers below it, and may not in a user namespace (EPERM, Linux 6.16 to 6.18).
COPIED_LAYERS = {"top": "/", "etc": "/etc"}

# What of the host's /etc is live inside until the environment has changed it: files, whose copies in bases are kept in
# step (livefiles.py), and links, which lead there. What resolv.conf is a link to is in RUN_LIVE.
LIVE_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/timezone")
LIVE_LINKS = {"/etc/localtime": "../run/host/etc/localtime"}
ETC_OF_HOST = "/run/host/etc"
# There the sockets of the host's daemons are (sssd's, for name services, mysqld's ...), and bases have links to them.
SOCKETS, SOCKETS_OF_HOST = "/var", "/run/host/var"

# /run: where the host's own shows inside, read-only; the convention of systemd's and Flatpak's containers.
RUN_OF_HOST = "/run/host/run"
# /run: host directories that are shown whole, because their owner replaces what is in them or data in them is live.
RUN_LIVE = frozenset(
    {
        *("avahi-daemon", "connman", "cups", "media", "mount", "netconfig", "NetworkManager", "nscd", "pcscd"),
        *("resolvconf", "samba/winbindd", "udev", "user", "wrappers", "WSL", "systemd/resolve"),
    }
)
# Those of them that are bound: programs of the user write there and new mounts appear, or a client wants no link.
RUN_BOUND = frozenset({"media", "samba/winbindd", "user"})
# /run: what an environment has for itself, empty. /run/systemd/system is the sign that systemd is the service
# manager; without it, and without systemd's private socket, no script can reach the host's.
RUN_FRESH = frozenset({"lock"})
RUN_ABSENT = frozenset(
    {
        *("initctl", "systemd/system", "systemd/private", "systemd/generator", "systemd/generator.early"),
        *("systemd/generator.late", "systemd/transient", "systemd/io.systemd.ManagedOOM", "systemd/notify"),
        *("host", "systemd/units", "systemd/propagate", "systemd/incoming", "systemd/inaccessible", "initramfs"),
        "sysenv-ns",
    }
)
RUN_COPY_LIMIT = MEBIBYTE
# /run: what the tool has there, and where servers of an environment's users put the sockets that would be in /tmp
# otherwise, which is the host's.
RUN_OWN = "/run/sysenv-ns"
OWN_SOCKETS = f"{RUN_OWN}/sockets"
