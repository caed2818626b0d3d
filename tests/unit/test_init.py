"""systemd as process 1: what it may start, which control group is the user's, what its systemctl says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns import managed
from sysenv_ns.environment.description import Environment, read_description, write_description
from sysenv_ns.inside import boot
from sysenv_ns.kernel import cgroups, mountinfo
from sysenv_ns.records import replace

from .samples import FULL

_V1 = "12:pids:/user.slice\n1:name=systemd:/user.slice/x.scope\n"
_UNIFIED = b"30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
_HYBRID = (
    b"30 20 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
    b"31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    b"32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
)
_CONTAINER = b"30 20 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n"


@pytest.mark.parametrize(
    ("membership", "mounts", "expected"),
    [
        ("0::/user.slice/a b.scope\n", _UNIFIED, "/sys/fs/cgroup/user.slice/a b.scope"),
        (f"{_V1}0::/user.slice\n", _HYBRID, "/sys/fs/cgroup/unified/user.slice"),
        ("0::/\n", _UNIFIED, "/sys/fs/cgroup"),
        ("0::/docker/abc/x\n", _CONTAINER, "/sys/fs/cgroup/x"),
        ("0::/docker/abc\n", _CONTAINER, "/sys/fs/cgroup"),
        ("0::/docker/abcd\n", _CONTAINER, None),  # of another container
        ("0::/../x\n", _CONTAINER, None),
        (_V1, _HYBRID, None),
        ("0::/x\n", b"", None),
    ],
)
def test_where_a_control_group_is(membership: str, mounts: bytes, expected: str | None) -> None:
    assert cgroups.located(membership, mountinfo.parse(mounts)) == expected


def test_the_uppermost_group_of_the_user_is_divided(tmp_path: Path) -> None:
    own = tmp_path / "given" / "part" / "own"
    own.mkdir(parents=True)
    assert cgroups.delegated(str(own)) is None
    for path in (own, own.parent, own.parent.parent):
        (path / cgroups.PROCESSES).touch()
    assert cgroups.delegated(str(own)) == str(tmp_path / "given")
    os.unlink(own.parent / cgroups.PROCESSES)
    assert cgroups.delegated(str(own)) == str(own)


def test_groups_are_deleted_with_those_below_them(tmp_path: Path) -> None:
    (tmp_path / "group" / "system.slice" / "x.service").mkdir(parents=True)
    cgroups.clear(str(tmp_path / "group"))
    assert list((tmp_path / "group").iterdir()) == []
    cgroups.remove(str(tmp_path / "group"))
    cgroups.remove(str(tmp_path / "group"))  # its manager may have been faster
    assert list(tmp_path.iterdir()) == []


def test_what_the_environment_wants_and_what_everything_needs_is_followed() -> None:
    wants = "multi-user.target.wants"
    links = {f"{wants}/{name}" for name in ("ssh.service", "redis-server.service", "dbus.service", "getty.target")}
    links |= {"sysinit.target.wants/systemd-udevd.service", "sockets.target.wants/systemd-journald.socket"}
    own = {f"{wants}/redis-server.service", "sysinit.target.wants/systemd-udevd.service", f"{wants}/gone.service"}
    assert boot.unwanted(links, own) == {
        f"{wants}/ssh.service",
        f"{wants}/getty.target",
        "sysinit.target.wants/systemd-udevd.service",  # also of a systemd that is upgraded inside
    }


def test_init_scripts_of_the_host_are_not_followed() -> None:
    scripts = {"/etc/rc2.d/S01theirs", "/etc/rc2.d/S02own", "/etc/rc3.d/S01theirs", "/etc/rc2.d/K01off"}
    found = boot.unwanted_scripts(scripts, {"/etc/rc2.d/S02own"})
    assert found == {"multi-user.target.wants/theirs.service", "graphical.target.wants/theirs.service"}
    # It has a unit too, which is enabled.
    wanted = {"multi-user.target.wants/theirs.service"}
    assert boot.unwanted_scripts(scripts, {"/etc/rc2.d/S02own", *wanted}) == found - wanted


def test_generators_of_the_machine_do_not_run() -> None:
    place = "/usr/lib/systemd/system-generators"
    names = ("systemd-fstab-generator", "systemd-sysv-generator", "cloud-init-generator", "own-generator")
    own = {f"{place}/own-generator", f"{place}/systemd-fstab-generator"}
    found = boot.unwanted_generators({f"{place}/{name}" for name in names}, own)
    assert found == {"systemd-fstab-generator", "cloud-init-generator"}


def test_what_is_wanted_is_read_from_the_changes(tmp_path: Path) -> None:
    for path in (
        "one/etc/systemd/system/multi-user.target.wants/a.service",
        "one/etc/systemd/system/a.service",
        "two/usr/lib/systemd/system/x.service.requires/b.socket",
        "two/etc/systemd/system/default.target",
        "two/etc/rc2.d/S01script",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert boot.wanted([tmp_path / "one", tmp_path / "two", tmp_path / "absent"]) == {
        "multi-user.target.wants/a.service",
        "x.service.requires/b.socket",
        "/etc/systemd/system/default.target",
        "/etc/rc2.d/S01script",
    }


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("dbus/system_bus_socket", True),
        ("systemd/journal/socket", True),
        ("systemd", True),
        ("systemd/resolve", False),
        ("systemd/resolve/stub-resolv.conf", False),
        ("docker.sock", False),
        ("user/1000/bus", False),
    ],
)
def test_which_sockets_of_the_host_are_not_shown(path: str, own: bool) -> None:
    assert boot.is_own(path) is own


_STATE = """\
Id=redis-server.service
LoadState=loaded
ActiveState=active
SubState=running
StateChangeTimestampMonotonic=5000000
MainPID=17
ControlGroup=/system.slice/redis-server.service
"""


def test_what_systemctl_says() -> None:
    told = managed.decoded(_STATE, "one\ntwo\nthree\nfour\n", 1000.0)
    assert told is not None
    assert told.group == "/system.slice/redis-server.service"
    service = told.service
    assert (service.name, service.active, service.sub) == ("redis-server.service", "active", "running")
    assert (service.since, service.main, service.log) == (1005.0, 17, ("two", "three", "four"))
    assert service.runs


@pytest.mark.parametrize(
    "changed",
    [
        ("ActiveState=active", "ActiveState=inactive"),
        ("Id=redis-server", "Id=systemd-journald"),
        ("LoadState=loaded", "LoadState=not-found"),
        ("MainPID=17", "MainPID=many"),
        (_STATE, ""),
        (_STATE, "\n=\nId\n"),
    ],
)
def test_what_is_not_shown(changed: tuple[str, str]) -> None:
    assert managed.decoded(_STATE.replace(*changed), "", 0.0) is None


def test_the_description_remembers_it(tmp_path: Path) -> None:
    environment = Environment("proj", "0", "stub", FULL, 0.0, tmp_path, tmp_path)
    for init in (False, True):
        write_description(tmp_path, replace(environment, init=init))
        assert read_description(tmp_path, "proj", tmp_path).init is init
