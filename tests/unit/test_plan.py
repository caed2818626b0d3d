"""The operations of a session: what is mounted where, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from sysenv_ns.drivers import driver
from sysenv_ns.drivers.layered import Layered
from sysenv_ns.drivers.root import Changes, overlays_of_disks
from sysenv_ns.environment import directory
from sysenv_ns.environment.description import Environment
from sysenv_ns.host import layout
from sysenv_ns.host.layout import Host, HostEntry
from sysenv_ns.host.run_directory import RunEntry
from sysenv_ns.kernel import idmap, mountinfo
from sysenv_ns.kernel.operations import Bind, Directory, File, Operation, Symlink, Tmpfs
from sysenv_ns.kernel.overlay import Overlay
from sysenv_ns.lower.base import BaseLayer

from .samples import host

ENVIRONMENT = "/home/you/.local/share/sysenv-ns/envs/proj"
DISKS = tuple(mount.point for mount in host("lvm").disks)
APART = f"{ENVIRONMENT}/root"
SOURCE = "sysenv-ns:abc"
LAYERS = (
    BaseLayer(Path("/b/own")),
    BaseLayer(Path("/b/top-1"), ("/usr", "/opt")),
    BaseLayer(Path("/b/stubs-1"), ("/opt",)),
)
STUB, ROOT = "stub", "root"
_NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def changes(frozen: Mapping[str, tuple[str, ...]]) -> dict[str, Changes]:
    """Where the changes to / and to any disk of the samples are, with these frozen ones."""
    return {
        point: Changes(f"{path}/upper", f"{path}/work", frozen.get(point, ()))
        for point in ("/", *DISKS)
        for path in [ENVIRONMENT if point == "/" else f"{ENVIRONMENT}/{directory.further(point)}"]
    }


CONTAINER_FILES = ("/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/usr/sbin/docker-init")


def environment(name: str, store: Path = Path(ENVIRONMENT).parent.parent, layers: tuple[str, ...] = ()) -> Environment:
    id_map = idmap.single(1000, 1000) if name != ROOT else None
    return Environment("proj", "abc", name, id_map, 0.0, store / "envs" / "proj", store, layers)


def plan(system: Host, name: str, frozen: Mapping[str, tuple[str, ...]] = _NONE) -> tuple[Operation, ...]:
    """What an environment of the driver of that name mounts; `frozen` is for the driver root."""
    if name == ROOT:
        overlays = overlays_of_disks(system, SOURCE, changes(frozen), APART)
        return layout.plan(system, overlays, protected=True)
    return layout.plan(system, [layered(name).overlay(environment(name), LAYERS)])


def layered(name: str) -> Layered:
    found = driver.get(name)
    assert isinstance(found, Layered)
    return found


def binds(system: Host, name: str) -> dict[str, Bind]:
    found = (op for op in plan(system, name) if isinstance(op, Bind))
    return {op.target: op for op in found if not op.target.startswith("/run/host/")}


def overlays(system: Host, name: str, frozen: Mapping[str, tuple[str, ...]] = _NONE) -> list[Overlay]:
    return [op for op in plan(system, name, frozen) if isinstance(op, Overlay)]


@pytest.mark.parametrize("driver_name", [STUB, ROOT])
@pytest.mark.parametrize("name", ["plain", "lvm", "wsl2"])
def test_the_first_operation_is_the_root(name: str, driver_name: str) -> None:
    first = plan(host(name), driver_name)[0]
    assert isinstance(first, Overlay)
    below: tuple[tuple[str, ...], tuple[str, ...]] = (("/",), ())
    if driver_name == STUB:
        below = (("/b/own/tree", "/b/top-1/tree", "/b/stubs-1/tree"), ("/usr", "/opt"))
    assert (first.target, first.source, (first.lowers, first.data_roots)) == ("/", SOURCE, below)
    assert (first.upper, first.work) == (f"{ENVIRONMENT}/upper", f"{ENVIRONMENT}/work")
    assert first.unprivileged is (driver_name == STUB)


def test_one_overlay_for_everything_without_privileges() -> None:
    assert [overlay.target for overlay in overlays(host("lvm"), STUB)] == ["/"]


def test_an_overlay_for_each_disk_of_the_system_as_root() -> None:
    found = overlays(host("lvm"), ROOT)
    assert [overlay.target for overlay in found] == ["/", "/boot", "/usr", "/usr/local", "/var", "/var/log"]
    assert found[-1].lowers == ("/var/log",)
    assert found[-1].upper == f"{ENVIRONMENT}/mounts/var%2Flog/upper"
    directories = [path for overlay in found for path in (overlay.upper, overlay.work)]
    assert len(set(directories)) == len(directories)


@pytest.mark.parametrize("name", [STUB, ROOT])
def test_outer_mounts_come_before_inner_ones(name: str) -> None:
    system = host("lvm", home="/var/home/you", stores=("/var/tmp", "/var/log/journal"))
    targets = [op.target for op in plan(system, name)]
    for position, target in enumerate(targets):
        assert not any(mountinfo.is_below(target, later) for later in targets[position + 1 :])


def test_the_hosts_own_is_bound_onto_itself() -> None:
    found = binds(host("snap_docker", extra=(HostEntry("snap", "directory"),)), STUB)
    assert {"/home", "/proc", "/boot/efi", "/snap", "/var/tmp"} <= found.keys()
    assert all(bind.source == bind.target and not bind.readonly for bind in found.values())


def test_mounted_files_are_bound_as_files() -> None:
    system = host(
        "wsl2",
        extra=(HostEntry("init", "file", 2_719_744), HostEntry("swap", "file", 1 << 30)),
        mounted_files=("/init",),
    )
    found = binds(system, STUB)
    assert [target for target, bind in found.items() if not bind.directory] == ["/init", "/swap"]
    assert not binds(host("container", mounted_files=CONTAINER_FILES), STUB)["/usr/sbin/docker-init"].directory


def test_what_a_container_mounts_in_etc_belongs_to_the_environment() -> None:
    found = binds(host("container", mounted_files=CONTAINER_FILES), STUB)
    assert not [target for target in found if target.startswith("/etc")]


def test_what_a_container_mounts_in_etc_is_seen_by_root_too() -> None:
    # The overlay over / shows what lies below these mounts: in a container empty files.
    targets = {op.target for op in plan(host("container", mounted_files=CONTAINER_FILES), ROOT)}
    assert targets >= {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}


def test_root_cannot_write_to_foreign_mounts_in_system_directories() -> None:
    system = host("snap_docker", extra=(HostEntry("snap", "directory"),), stores=("/var/tmp", "/var/lib/docker"))
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
    assert not set(system.system_directories) & binds(system, STUB).keys()


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
        RunEntry("user", "directory", 0o755, 0, 0, live=True, bound=True),
    )
    made = plan(host(run=run), STUB)
    expected: list[Operation] = [
        Tmpfs("/run", 0o755),
        Directory("/run/host", 0o755, 0, 0),
        Symlink("/run/host/usr", "../../usr"),
        Directory("/run/sysenv-ns", 0o755, 0, 0),
        Directory("/run/sysenv-ns/sockets", 0o1777, 0, 0),
        Directory("/run/host/etc", 0o755, 0, 0),
        Bind("/etc", "/run/host/etc", readonly=True),
        Directory("/run/host/run", 0o755, 0, 0),
        Bind("/run", "/run/host/run", readonly=True),
        Directory("/run/host/var", 0o755, 0, 0),
        Bind("/var", "/run/host/var", readonly=True),
        Symlink("/run/dbus", "/run/host/run/dbus"),
        Directory("/run/lock", 0o1777, 0, 0),
        File("/run/motd", 0o644, 0, 4, b"hello\n"),
        Symlink("/run/shm", "/dev/sh\udcff"),
        Directory("/run/systemd", 0o755, 0, 0),
        Symlink("/run/systemd/resolve", "/run/host/run/systemd/resolve"),
        Symlink("/run/tool.sock", "/run/host/run/tool.sock"),
        Directory("/run/user", 0o755, 0, 0),
        Bind("/run/user", "/run/user"),
    ]
    assert list(made)[-len(expected) :] == expected


@pytest.mark.parametrize("name", [STUB, "copy", "reflink", "fuse"])
def test_frozen_layers_lie_between(name: str, tmp_path: Path) -> None:
    frozen = [tmp_path / "layers" / ident / "upper" for ident in ("2", "1")]
    for path in frozen:
        path.mkdir(parents=True)
    root = layered(name).overlay(environment(name, tmp_path, ("2", "1")), LAYERS)
    below = [*(str(layer.tree) for layer in LAYERS), *(["/"] if name == "fuse" else [])]
    assert list(root.lowers) == [*map(str, frozen), *below]


def test_frozen_layers_of_a_disk() -> None:
    frozen: dict[str, tuple[str, ...]] = {"/": ("/l/1/upper",), "/var": ("/l/1/mounts/var/upper",)}
    lowers = {overlay.target: overlay.lowers for overlay in overlays(host("lvm"), ROOT, frozen)}
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
    points = ["/", *(mount.point for mount in system.disks)]
    frozen = dict.fromkeys(points, (f"{layers}/1/upper",))
    found = overlays(system, ROOT, frozen)
    assert [overlay.target for overlay in found if overlay.apart] == apart
    assert {overlay.apart for overlay in found} <= {"", APART}
    assert not any(overlay.apart for overlay in overlays(system, ROOT))  # nothing lies in it


@pytest.mark.parametrize("name", [STUB, ROOT])
@pytest.mark.parametrize("prepared", [True, False])
def test_what_root_shows_to_a_user_is_not_shown_again(name: str, prepared: bool) -> None:
    """The whole /run of the host is below /run/host, and in it all programs with other owners."""
    line = b"600 27 254:0 /usr /run/sysenv-ns/1000/usr ro,nosuid,nodev,relatime - ext4 /dev/vda1 rw\n"
    system = host((*host().mounts, *mountinfo.parse(line)) if prepared else host().mounts)
    operations = plan(system, name)
    shown = next(n for n, op in enumerate(operations) if isinstance(op, Bind) and op.target == "/run/host/run")
    hidden = [n for n, op in enumerate(operations) if isinstance(op, Tmpfs) and op.target == "/run/host/run/sysenv-ns"]
    assert [n > shown for n in hidden] == ([True] if prepared else [])
