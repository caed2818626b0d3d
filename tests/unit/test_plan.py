"""The operations of a session: what is mounted where, and in which order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sysenv_ns.host import layout
from sysenv_ns.host.layout import Entry, Host, Root, RunEntry
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.operations import Bind, Directory, File, Operation, Overlay, Symlink, Tmpfs
from sysenv_ns.upper.fuse import FuseOverlay

from .samples import host

ENVIRONMENT = "/home/you/.local/share/sysenv-ns/envs/proj"
STUB = Root("sysenv-ns:abc", ("/b/own/tree", "/b/top-1/tree"), ("/usr", "/opt"), ENVIRONMENT, unprivileged=True)
ROOT = Root("sysenv-ns:abc", ("/",), (), ENVIRONMENT, unprivileged=False)

CONTAINER_FILES = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/usr/sbin/docker-init")


def binds(system: Host, root: Root) -> dict[str, Bind]:
    return {op.target: op for op in layout.plan(system, root) if isinstance(op, Bind)}


def overlays(system: Host, root: Root) -> list[Overlay]:
    return [op for op in layout.plan(system, root) if isinstance(op, Overlay)]


@pytest.mark.parametrize("root", [STUB, ROOT])
@pytest.mark.parametrize("name", ["plain", "lvm", "wsl2"])
def test_the_first_operation_is_the_root(name: str, root: Root) -> None:
    first = layout.plan(host(name), root)[0]
    assert isinstance(first, Overlay)
    assert (first.target, first.lowers, first.data_roots) == ("/", root.lowers, root.data_roots)
    assert (first.upper, first.work) == (f"{ENVIRONMENT}/upper", f"{ENVIRONMENT}/work")


def test_one_overlay_for_everything_without_privileges() -> None:
    assert [overlay.target for overlay in overlays(host("lvm"), STUB)] == ["/"]


def test_an_overlay_for_each_disk_of_the_system_as_root() -> None:
    found = overlays(host("lvm"), ROOT)
    assert [overlay.target for overlay in found] == ["/", "/boot", "/usr", "/usr/local", "/var", "/var/log"]
    assert found[-1].lowers == ("/var/log",)
    assert found[-1].upper == f"{ENVIRONMENT}/mounts/var%2Flog/upper"
    directories = [path for overlay in found for path in (overlay.upper, overlay.work)]
    assert len(set(directories)) == len(directories)


@pytest.mark.parametrize("root", [STUB, ROOT])
def test_outer_mounts_come_before_inner_ones(root: Root) -> None:
    system = host("lvm", home="/var/home/you", stores=("/var/tmp", "/var/log/journal"))
    targets = [op.target for op in layout.plan(system, root)]
    for position, target in enumerate(targets):
        assert not any(mountinfo.is_below(target, later) for later in targets[position + 1 :])


def test_the_hosts_own_is_bound_onto_itself() -> None:
    found = binds(host("snap_docker", extra=(Entry("snap", "directory"),)), STUB)
    assert {"/home", "/proc", "/boot/efi", "/snap", "/var/tmp"} <= found.keys()
    assert all(bind.source == bind.target and not bind.readonly for bind in found.values())


def test_mounted_files_are_bound_as_files() -> None:
    system = host(
        "wsl2", extra=(Entry("init", "file", 2_719_744), Entry("swap", "file", 1 << 30)), mounted_files=("/init",)
    )
    found = binds(system, STUB)
    assert [target for target, bind in found.items() if not bind.directory] == ["/init", "/swap"]
    assert not binds(host("container", mounted_files=CONTAINER_FILES), STUB)["/usr/sbin/docker-init"].directory


def test_what_a_container_mounts_in_etc_belongs_to_the_environment() -> None:
    found = binds(host("container", mounted_files=CONTAINER_FILES), STUB)
    assert not [target for target in found if target.startswith("/etc")]


def test_what_a_container_mounts_in_etc_is_seen_by_root_too() -> None:
    # The overlay over / shows what lies below these mounts: in a container empty files.
    targets = {op.target for op in layout.plan(host("container", mounted_files=CONTAINER_FILES), ROOT)}
    assert targets >= {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}


def test_root_cannot_write_to_foreign_mounts_in_system_directories() -> None:
    system = host("snap_docker", extra=(Entry("snap", "directory"),), stores=("/var/tmp", "/var/lib/docker"))
    readonly = [target for target, bind in binds(system, ROOT).items() if bind.readonly]
    assert readonly == ["/boot/efi", "/var/snap/firefox/common/host-hunspell"]


def test_scratch_space_on_a_mount_of_its_own_stays_writable_for_root() -> None:
    assert not binds(host("lvm"), ROOT)["/var/tmp"].readonly  # a tmpfs


@pytest.mark.parametrize(("point", "home"), [("/root", "/root"), ("/var/home", "/var/home/you")])
def test_home_on_a_foreign_mount_stays_writable_for_root(point: str, home: str) -> None:
    line = f"900 28 0:90 / {point} rw - nfs4 filer:/home rw\n".encode()
    system = host((*host().mounts, *mountinfo.parse(line)), home=home)
    assert not binds(system, ROOT)[point].readonly


@pytest.mark.parametrize("merged", [True, False])
def test_no_system_directory_is_bound(merged: bool) -> None:
    system = host(merged=merged)
    assert not set(layout.overlaid_directories(system)) & binds(system, STUB).keys()


def test_run_is_the_environments_own() -> None:
    run = (
        RunEntry("dbus", "directory", 0o755, 0, 0, live=True),
        RunEntry("lock", "directory", 0o1777, 0, 0),
        RunEntry("motd", "file", 0o644, 0, 4, content=b"hello\n"),
        RunEntry("initctl.pipe", "other", 0o600, 0, 0),
        RunEntry("shm", "symlink", 0o777, 0, 0, content=b"/dev/sh\xff"),
        RunEntry("systemd", "directory", 0o755, 0, 0),
        RunEntry("systemd/resolve", "directory", 0o755, 65534, 65534, live=True),
        RunEntry("tool.sock", "socket", 0o666, 0, 0),
    )
    plan = layout.plan(host(run=run), STUB)
    expected: list[Operation] = [
        Tmpfs("/run", 0o755),
        Directory("/run/dbus", 0o755, 0, 0),
        Bind("/run/dbus", "/run/dbus"),
        Directory("/run/lock", 0o1777, 0, 0),
        File("/run/motd", 0o644, 0, 4, b"hello\n"),
        Symlink("/run/shm", "/dev/sh\udcff"),
        Directory("/run/systemd", 0o755, 0, 0),
        Directory("/run/systemd/resolve", 0o755, 0, 0),
        Bind("/run/systemd/resolve", "/run/systemd/resolve"),
        File("/run/tool.sock", 0o600, 0, 0, b""),
        Bind("/run/tool.sock", "/run/tool.sock", directory=False),
    ]
    assert list(plan)[-len(expected) :] == expected


@pytest.mark.parametrize("root", [STUB, ROOT, replace(STUB, fuse=True)])
def test_frozen_layers_lie_between(root: Root) -> None:
    first = layout.plan(host("plain"), replace(root, frozen={"/": ("/l/2/upper", "/l/1/upper")}))[0]
    assert isinstance(first, Overlay | FuseOverlay)
    assert first.lowers == ("/l/2/upper", "/l/1/upper", *root.lowers)


def test_frozen_layers_of_a_disk() -> None:
    frozen = {"/": ("/l/1/upper",), "/var": ("/l/1/mounts/var/upper",)}
    lowers = {overlay.target: overlay.lowers for overlay in overlays(host("lvm"), replace(ROOT, frozen=frozen))}
    assert lowers["/"] == ("/l/1/upper", "/")
    assert lowers["/var"] == ("/l/1/mounts/var/upper", "/var")
    assert lowers["/usr"] == ("/usr",)


@pytest.mark.parametrize(
    ("name", "layers", "apart"),
    [
        ("plain", "/root/layers", ["/"]),
        ("plain", "/dev/shm/layers", []),
        ("lvm", "/root/layers", ["/"]),
        ("lvm", "/var/layers", ["/var"]),
    ],
)
def test_a_disk_that_layers_lie_in_is_mounted_apart(name: str, layers: str, apart: list[str]) -> None:
    system = host(name)
    points = ["/", *(mount.point for mount in layout.further_mounts(system))]
    frozen = dict.fromkeys(points, (f"{layers}/1/upper",))
    found = overlays(system, replace(ROOT, frozen=frozen))
    assert [overlay.target for overlay in found if overlay.apart] == apart
    assert {overlay.apart for overlay in found} <= {"", f"{ENVIRONMENT}/root"}
    assert not any(overlay.apart for overlay in overlays(system, ROOT))  # nothing lies in it
