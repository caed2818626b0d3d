"""What keeps an environment away from the host's services: files and their content."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sysenv_ns.host import services
from sysenv_ns.host.records import Addition

BOUND = ("/dev", "/home", "/tmp", "/var/log/journal", "/run/udev")


def added() -> dict[str, Addition]:
    return {addition.path: addition for addition in services.additions(BOUND)}


def script(tmp_path: Path, path: str) -> Path:
    written = tmp_path / Path(path).name
    written.write_text(added()[path].content)
    return written


def test_services_are_forbidden(tmp_path: Path) -> None:
    policy = script(tmp_path, "usr/sbin/policy-rc.d")
    assert subprocess.run(["sh", policy, "ssh", "start"], check=False).returncode == 101


@pytest.mark.parametrize("arguments", [["trigger"], ["--debug", "control", "--reload"], ["settle", "--timeout=1"]])
def test_udev_is_not_told_anything(tmp_path: Path, arguments: list[str]) -> None:
    udevadm = script(tmp_path, "usr/lib/sysenv-ns/bin/udevadm")
    result = subprocess.run(["sh", udevadm, *arguments], check=False, capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_udev_is_asked(tmp_path: Path) -> None:
    udevadm = script(tmp_path, "usr/lib/sysenv-ns/bin/udevadm")
    real = tmp_path / "real"
    real.write_text('#!/bin/sh\necho "$@"\n')
    real.chmod(0o755)
    udevadm.write_text(udevadm.read_text().replace("/usr/bin/udevadm", str(real)))
    result = subprocess.run(["sh", udevadm, "info", "trigger"], check=False, capture_output=True)
    assert (result.returncode, result.stdout) == (0, b"info trigger\n")


@pytest.mark.parametrize(
    ("given", "arguments", "expected"),
    [
        (None, ["enable", "--now", "a b.service"], "1 [enable] [a b.service]"),
        ("1", ["--now", "mask", "x"], "1 [mask] [x]"),
        ("0", ["enable", "--now", "x"], "0 [enable] [--now] [x]"),
        (None, [], "1"),
    ],
)
def test_systemctl_starts_nothing(tmp_path: Path, given: str | None, arguments: list[str], expected: str) -> None:
    files = added()
    if "usr/lib/sysenv-ns/bin/systemctl" not in files:
        pytest.skip("this host has no systemctl")
    systemctl = script(tmp_path, "usr/lib/sysenv-ns/bin/systemctl")
    real = tmp_path / "real"
    real.write_text('#!/bin/sh\nprintf %s "$SYSTEMD_OFFLINE"\n[ $# = 0 ] || printf " [%s]" "$@"\n')
    real.chmod(0o755)
    systemctl.write_text(systemctl.read_text().replace("/usr/bin/systemctl", str(real)))
    variables = {"PATH": os.environ["PATH"], **({} if given is None else {"SYSTEMD_OFFLINE": given})}
    result = subprocess.run(["sh", systemctl, *arguments], check=True, capture_output=True, text=True, env=variables)
    assert result.stdout == expected


def test_the_hosts_environment_is_kept() -> None:
    content = added()["etc/environment"].content
    host = Path("/etc/environment")
    assert content.startswith(host.read_text() if host.exists() else "")
    assert content.endswith("SYSTEMD_OFFLINE=1\n")


TMPFILES = """\
# /tmp and others
d /run/lock 1777 root root -
D /tmp 1777 root root -
z "/dev/net/tun" 0666 - -

L /run/shm - - - - /dev/shm
a+ /var/log/journal/%m - - - - d:group:adm:r-x
z /var/log/journalist 0755
d /run/udev 0755
"""


def test_lines_for_what_is_the_hosts_are_left_out() -> None:
    kept = services.without_bound(TMPFILES, BOUND).splitlines()
    assert kept == [
        "# /tmp and others",
        "d /run/lock 1777 root root -",
        "",
        "L /run/shm - - - - /dev/shm",
        "z /var/log/journalist 0755",
    ]


def test_files_that_are_the_hosts_alone_are_hidden_even_if_they_come_later() -> None:
    files = added()
    for name in ("tmp.conf", "static-nodes-permissions.conf"):
        lines = files[f"etc/tmpfiles.d/{name}"].content.splitlines()
        assert all(not line or line.startswith("#") for line in lines)
