"""Which directories are overlaid, bound, mirrored or stubbed on different hosts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from sysenv_ns import policy
from sysenv_ns.drivers.root import Changes, overlays_of_disks
from sysenv_ns.host import layout
from sysenv_ns.host.layout import Host, HostEntry, LayerPlan
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.mountinfo import is_below

from .samples import TABLES, host, table

OVERLAID = ("/boot", "/etc", "/opt", "/root", "/srv", "/usr", "/var")
BOUND = ("/dev", "/home", "/media", "/mnt", "/proc", "/sys", "/tmp")
DOCKER_STORES = ("/var/tmp", "/var/lib/docker", "/var/lib/snapd")

HOSTS = {
    "plain": host("plain"),
    "btrfs": host("btrfs"),
    "lvm": host("lvm"),
    "snap_docker": host("snap_docker", extra=(HostEntry("snap", "directory"),), stores=DOCKER_STORES),
    "wsl2": host("wsl2", extra=(HostEntry("init", "file", 2_719_744),), mounted_files=("/init",)),
    "container": host(
        "container",
        home="/root",
        mounted_files=("/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/usr/sbin/docker-init"),
    ),
}


def stubs(system: Host) -> LayerPlan:
    return layout.layer_plans(system)[-1]


def blocked(system: Host, path: str) -> frozenset[str]:
    return next(tree.blocked for tree in stubs(system).trees if tree.path == path)


def test_system_directories_of_a_merged_usr() -> None:
    assert host().system_directories == OVERLAID


def test_system_directories_of_an_unmerged_usr() -> None:
    assert host(merged=False).system_directories == tuple(sorted((*OVERLAID, "/bin", "/lib", "/lib64", "/sbin")))


@pytest.mark.parametrize("name", ["data", "nix", "snap", "usrx", "xetc", "bin.old", "lost found"])
def test_unknown_directories_in_the_root_stay_the_hosts(name: str) -> None:
    system = host(extra=(HostEntry(name, "directory"),))
    assert f"/{name}" not in system.system_directories
    assert f"/{name}" in system.bound_paths


@pytest.mark.parametrize(
    ("name", "further"),
    [
        ("plain", ("/var/tmp",)),
        ("btrfs", ("/boot/efi", "/var/tmp")),
        ("lvm", ("/srv/share", "/var/tmp")),
        (
            "snap_docker",
            ("/boot/efi", "/snap", *DOCKER_STORES, "/var/snap/firefox/common/host-hunspell"),
        ),
        (
            "wsl2",
            (
                "/init",
                "/usr/lib/modules/6.6.87.2-microsoft-standard-WSL2",
                "/usr/lib/wsl/drivers",
                "/usr/lib/wsl/lib",
                "/var/tmp",
            ),
        ),
        ("container", ("/root", "/usr/sbin/docker-init", "/var/cache/build", "/var/tmp")),
    ],
)
def test_bound_paths(name: str, further: tuple[str, ...]) -> None:
    assert HOSTS[name].bound_paths == tuple(sorted((*BOUND, *further)))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (HostEntry("swapfile", "file", 1 << 31), True),
        (HostEntry(".autorelabel", "file", 0), False),
        (HostEntry("vmlinuz", "symlink"), False),
        (HostEntry("socket", "socket"), False),
    ],
)
def test_only_large_files_in_the_root_are_bound(entry: HostEntry, expected: bool) -> None:
    assert (f"/{entry.path}" in host(extra=(entry,)).bound_paths) is expected


@pytest.mark.parametrize("home", ["/var/home/you", "/usr/home", "/root", "/srv/www", "/users/you"])
def test_home_is_bound_wherever_it_is(home: str) -> None:
    assert home in host(home=home).bound_paths


@pytest.mark.parametrize("home", ["/", "/home/you", "/tmp/x"])
def test_home_adds_nothing_where_it_is_the_hosts_already(home: str) -> None:
    assert host(home=home).bound_paths == host().bound_paths


def test_a_covered_mount_is_not_bound() -> None:
    system = host("masked")
    assert "/srv/share/inner" not in system.bound_paths
    assert "/srv/share" in system.bound_paths


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/b", "/a/x", "/a", "/a"], ("/a", "/b")),
        (["/a-b", "/a", "/a/c"], ("/a", "/a-b")),
        ([], ()),
    ],
)
def test_outermost(paths: list[str], expected: tuple[str, ...]) -> None:
    assert layout.outermost(paths) == expected


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("lvm", {"/usr", "/var", "/var/log", "/home", "/boot", "/usr/local"}),
        ("btrfs", {"/home", "/var/log"}),
        ("snap_docker", set()),
        ("container", set()),
        ("wsl2", set()),
    ],
)
def test_system_data_are_disks_and_not_bind_mounts(name: str, system: set[str]) -> None:
    found = {mount.point for mount in table(name) if layout.is_system_data(mount, HOSTS[name])}
    assert found == system | {"/"}


def with_mounts(*lines: str, **keywords: Any) -> Host:
    """The plain host with further lines in its mount table."""
    text = "".join(f"{number} 28 {line}\n" for number, line in enumerate(lines, 900))
    return host((*host().mounts, *mountinfo.parse(text.encode())), **keywords)


@pytest.mark.parametrize(
    ("line", "bound"),
    [
        ("0:90 / /var/log rw - tmpfs log2ram rw", False),
        ("0:90 / /var/cache/apt/archives rw - nfs4 filer:/debs rw", False),
        ("0:90 / /usr ro - overlay sysext rw", False),
        ("8:1 /ostree/deploy/x/var /var rw - xfs /dev/sda1 rw", False),
        ("8:1 /srv/local /usr/local rw - ext4 /dev/sda1 rw", False),
        ("8:1 /srv/opt /opt rw - ext4 /dev/sda1 rw", False),
        ("8:1 /srv/vendor /opt/vendor rw - ext4 /dev/sda1 rw", True),
        ("0:90 / /opt rw - nfs4 filer:/opt rw", True),
        ("0:90 / /var/lib/app rw - tmpfs app rw", True),
        ("0:90 / /var/logs rw - tmpfs logs rw", True),
    ],
)
def test_what_every_installation_writes_to_is_the_systems(line: str, bound: bool) -> None:
    system = with_mounts(line)
    point = system.mounts[-1].point
    assert (point in system.bound_paths) is bound
    assert [mount.point for mount in system.disks] == ([] if bound else [point])


@pytest.mark.parametrize("point", ["/opt/auto", "/etc/auto", "/usr/local", "/boot"])
def test_an_automount_is_bound_triggered_or_not(point: str) -> None:
    idle = with_mounts(f"0:90 / {point} rw - autofs systemd-1 rw,direct")
    busy = with_mounts(f"0:90 / {point} rw - autofs systemd-1 rw,direct", f"8:1 / {point} rw - ext4 /dev/sda1 rw")
    for system in (idle, busy):
        assert point in system.bound_paths
        assert system.disks == ()


def test_a_mount_that_the_user_cannot_reach_is_not_bound_but_splits_the_data_root() -> None:
    system = replace(with_mounts("0:90 / /opt/closed/x rw - tmpfs x rw"), unreachable=frozenset({"/opt/closed/x"}))
    assert "/opt/closed/x" not in system.bound_paths
    assert {"/opt", "/opt/closed"} <= blocked(system, "/opt")


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["8:1 / /opt rw - ext4 /dev/sda1 rw", "8:1 / /srv rw - ext4 /dev/sda1 rw"], {"/srv"}),
        (["8:1 / /opt rw - ext4 /dev/sda1 rw", "8:2 / /srv rw - ext4 /dev/sda2 rw"], set()),
        (["8:1 / /opt rw - ext4 /dev/sda1 rw", "8:1 /var /var rw - ext4 /dev/sda1 rw"], {"/var"}),
        (["8:1 /data/opt /opt rw - ext4 /dev/sda1 rw", "8:1 /data/var /var rw - ext4 /dev/sda1 rw"], set()),
        (["259:2 /opt/local /usr/local rw - ext4 /dev/nvme0n1p2 rw"], {"/usr/local"}),
        (["259:2 /usr/local /usr/local rw - ext4 /dev/nvme0n1p2 rw"], set()),
        (["259:2 /mnt/local /usr/local rw - ext4 /dev/nvme0n1p2 rw"], set()),
    ],
)
def test_second_sights_of_a_disk(lines: list[str], seconds: set[str]) -> None:
    system = with_mounts(*lines)
    assert layout.second_sights(system) == seconds
    trees = {tree.path: tree for plan in layout.layer_plans(system) for tree in plan.trees}
    assert all(trees[point].copied == {point} for point in seconds)


@pytest.mark.parametrize("name", HOSTS)
def test_usual_hosts_have_no_second_sights(name: str) -> None:
    assert layout.second_sights(HOSTS[name]) == set()


def test_what_is_bound_whole_is_not_mirrored() -> None:
    system = with_mounts("0:90 / /srv rw - nfs4 filer:/srv rw", home="/root")
    assert {tree.path for tree in stubs(system).trees} & {"/srv", "/root"} == set()


@pytest.mark.parametrize(("home", "stores"), [("/srv/you", ()), ("/home/you", ("/srv/you",))])
def test_the_directory_of_the_upper_is_in_no_data_root(home: str, stores: tuple[str, ...]) -> None:
    system = host(home=home, stores=stores)
    assert layout.data_root("/srv", blocked(system, "/srv")) is None
    assert layout.data_root("/srv/www", blocked(system, "/srv")) == "/srv/www"


def test_what_the_user_wants_bound() -> None:
    system = replace(host(), bound=("/etc/vendor", "/usr/local/share/models", "/home/x"))
    assert {"/etc/vendor", "/usr/local/share/models"} <= set(system.bound_paths)
    trees = {tree.path: tree for plan in layout.layer_plans(system) for tree in plan.trees}
    plain = {tree.path: tree for plan in layout.layer_plans(host()) for tree in plan.trees}
    changed = {path for path in trees if trees[path] != plain[path]}
    assert changed == {"/", "/etc", "/usr/local"}
    assert layout.data_root("/usr/local/share", trees["/usr/local"].blocked) == "/usr"


@pytest.mark.parametrize("line", ["0:90 / /data rw - nfs4 filer:/data rw", "8:1 / /data rw - ext4 /dev/sda1 rw", ""])
def test_what_the_user_wants_overlaid(line: str) -> None:
    outer = f"900 28 {line}\n" if line else ""
    inner = f"901 {900 if line else 28} 0:91 / /data/guest rw - tmpfs guest rw\n"
    mounts = mountinfo.parse(f"{outer}{inner}".encode())
    system = host((*host().mounts, *mounts), extra=(HostEntry("data", "directory"),))
    assert "/data" in system.bound_paths
    wished = replace(system, overlaid=frozenset({"/data"}))
    assert "/data" not in wished.bound_paths
    assert "/data/guest" in wished.bound_paths
    (tree,) = (tree for tree in stubs(wished).trees if tree.path == "/data")
    assert tree.policy == policy.WISHED
    assert [mount.point for mount in wished.disks] == (["/data"] if line else [])


def test_a_guest_in_a_system_directory_that_the_user_wants_overlaid() -> None:
    system = replace(with_mounts("0:90 / /opt rw - nfs4 filer:/opt rw"), overlaid=frozenset({"/opt"}))
    assert "/opt" not in system.bound_paths
    assert "/opt" in {tree.path for tree in stubs(system).trees}


def test_a_mounted_file_is_never_a_disk_of_the_system() -> None:
    # a container on btrfs
    system = with_mounts("0:90 /@/containers/1/hosts /etc/hosts rw - btrfs /dev/sda1 rw", mounted_files=("/etc/hosts",))
    assert system.disks == ()


def test_the_disks_below_the_root() -> None:
    points = {name: [mount.point for mount in system.disks] for name, system in HOSTS.items()}
    assert points == {
        "plain": [],
        "btrfs": ["/var/log"],
        "lvm": ["/boot", "/usr", "/usr/local", "/var", "/var/log"],
        "snap_docker": [],
        "wsl2": [],
        "container": [],
    }


def test_layers_hold_every_tree_once_outer_before_inner() -> None:
    plans = layout.layer_plans(host())
    assert [plan.name for plan in plans] == ["top", "etc", "stubs"]
    assert [tree.path for plan in plans for tree in plan.trees] == [
        *("/", "/etc", "/usr", "/usr/local", "/boot", "/opt", "/root", "/srv", "/var")
    ]


@pytest.mark.parametrize("name", HOSTS)
def test_a_tree_stops_at_what_others_provide(name: str) -> None:
    system = HOSTS[name]
    trees = {tree.path: tree for plan in layout.layer_plans(system) for tree in plan.trees}
    elsewhere = {*system.bound_paths, *trees} - {"/"}
    assert elsewhere <= trees["/"].stops
    assert {f"/{entry.path}" for entry in system.top if entry.kind == "directory"} <= trees["/"].stops
    for path in trees.keys() - {"/"}:
        assert trees[path].stops == set(layout.outermost(p for p in trees["/"].stops if is_below(p, path)))


@pytest.mark.parametrize("name", HOSTS)
def test_a_data_root_has_no_mount_below_it(name: str) -> None:
    system = HOSTS[name]
    points = {mount.point for mount in system.mounts} | set(system.stores)
    for tree in stubs(system).trees:
        for directory in {tree.path, f"{tree.path}/a/b", *(p for p in points if is_below(p, tree.path))}:
            root = layout.data_root(directory, tree.blocked)
            assert root is not None or any(is_below(point, directory) for point in points)
            if root is not None:
                assert directory == root or is_below(directory, root)
                assert not any(is_below(point, root) for point in points)


@pytest.mark.parametrize(
    ("name", "directory", "root"),
    [
        ("plain", "/usr/share/doc", "/usr"),
        ("plain", "/var/lib/apt", "/var/lib"),
        ("plain", "/var/lib", "/var/lib"),
        ("plain", "/var", None),
        ("lvm", "/usr", None),
        ("lvm", "/usr/lib/x", "/usr/lib"),
        ("lvm", "/usr/local/lib", "/usr/local"),
        ("snap_docker", "/var/lib/docker", None),
        ("snap_docker", "/var/lib/dpkg/info", "/var/lib/dpkg"),
        ("wsl2", "/usr/lib/wsl", None),
        ("wsl2", "/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"),
        ("wsl2", "/usr/bin", "/usr/bin"),
    ],
)
def test_data_root_is_the_topmost_directory_without_mounts(name: str, directory: str, root: str | None) -> None:
    tree = "/usr" if directory.startswith("/usr") else "/var"
    assert layout.data_root(directory, blocked(HOSTS[name], tree)) == root


def test_a_store_counts_as_a_mount_before_it_has_one() -> None:
    with_store = host(stores=("/var/lib/docker",))
    assert {"/var", "/var/lib"} <= blocked(with_store, "/var")
    assert "/var" not in blocked(host(stores=()), "/var")


def test_an_inner_tree_that_is_no_directory_is_left_to_the_outer_one() -> None:
    # /usr/local as a symbolic link into /var, as on image-based systems
    plans = layout.layer_plans(replace(host("plain"), missing_trees=frozenset({"/usr/local"})))
    trees = {tree.path: tree for plan in plans for tree in plan.trees}
    assert "/usr/local" not in trees
    assert "/usr/local" not in trees["/usr"].stops


def test_a_mount_elsewhere_does_not_change_a_tree() -> None:
    before = host()
    mounts = (*before.mounts, *mountinfo.parse(b"900 28 0:90 / /var/lib/app/data rw - tmpfs none rw\n"))
    after = dataclasses.replace(before, mounts=mounts)
    changed = {new.path for old, new in zip(stubs(before).trees, stubs(after).trees, strict=True) if old != new}
    assert changed == {"/var"}


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/usr/bin", policy.BLOCK),
        ("/", policy.BLOCK),
        ("/etc", policy.UNLIMITED),
        ("/etc/ssl/certs", policy.UNLIMITED),
        ("/etcetera", policy.BLOCK),
        ("/var/lib", policy.MEBIBYTE),
        ("/var/lib/dpkg/info", policy.UNLIMITED),
        ("/var/cache/apt", policy.UNLIMITED),
        ("/var/cache/dnf/updates-0123", policy.BLOCK),
        ("/usr/lib/sysimage/rpm", policy.UNLIMITED),
    ],
)
def test_copy_limit_of_the_longest_prefix(path: str, limit: int) -> None:
    assert layout.copy_limit(path) == limit


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/passwd.lock", True),
        ("/etc/passwd", False),
        ("/var/cache/apt/archives/hello_2.10-3_amd64.deb", True),
        ("/var/cache/apt/archives/partial/hello_2.10-3_amd64.deb", True),
        ("/var/cache/apt/archives/odd\nname.deb", True),
        ("/var/cache/apt/archives/lock", False),
        ("/var/cache/apt/pkgcache.bin", True),
        ("/var/cache/apt/srcpkgcache.bin", False),  # apt makes the other one of it
        ("/var/cache/dnf/fedora-0123/packages/hello-2.10-3.x86_64.rpm", True),
        ("/var/cache/dnf/fedora.solv", False),
        ("/var/cache/pacman/pkg/hello-2.10-3-x86_64.pkg.tar.zst", True),
        ("/var/cache/pacman/pkg/hello-2.10-3-x86_64.pkg.tar.zst.sig", True),
        ("/var/cache/apk/hello-2.10-r0.apk", True),
        *((f"/var/cache/{name}", False) for name in ("debconf/templates.dat", "man/index.db", "ldconfig/aux-cache")),
        ("/var/lib/hello.deb", False),
    ],
)
def test_what_is_left_out(path: str, expected: bool) -> None:
    assert layout.left_out(path) == expected


def test_every_saved_table_is_used() -> None:
    assert set(TABLES) == {*HOSTS, "masked", "escapes"}


@pytest.mark.parametrize("protected", [False, True])
def test_what_a_start_needs_is_worked_out_once(monkeypatch: pytest.MonkeyPatch, protected: bool) -> None:
    """The base, its additions, the mounts and the binds all ask for the same paths."""
    counted: Counter[str] = Counter()

    class Counting:
        """A property of which is counted how often it is worked out."""

        def __init__(self, name: str) -> None:
            self.name, self.property = name, vars(Host)[name]

        def __get__(self, instance: Host, cls: type[Host]) -> object:
            counted[self.name] += 1
            return self.property.__get__(instance, cls)

    for name in ("system_directories", "bound_paths", "disks"):
        monkeypatch.setattr(Host, name, Counting(name))
    system = host("lvm", stores=("/var/tmp", "/var/log/journal"))
    assert layout.layer_plans(system)
    changes = {
        point: Changes(f"/e{point}/upper", f"/e{point}/work") for point in ("/", *(m.point for m in system.disks))
    }
    assert layout.plan(system, overlays_of_disks(system, "x", changes, "/e/root"), protected)
    assert system.shown
    assert counted == {"system_directories": 1, "bound_paths": 1, "disks": 1}
