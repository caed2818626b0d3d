"""What keeps an environment away from the host's services: files and their content."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sysenv_ns.host import services
from sysenv_ns.host.base_files import Addition

BOUND = ("/dev", "/home", "/tmp", "/var/tmp", "/var/log/journal", "/run/udev")


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


_ECHO = '#!/bin/sh\nprintf %s "$0 $SYSTEMD_OFFLINE"\n[ $# = 0 ] || printf " [%s]" "$@"\n'


def _stand_in(tmp_path: Path, name: str) -> Path:
    """A stand-in, with the real program and python3 replaced by what says with which arguments it was called."""
    if f"usr/lib/sysenv-ns/bin/{name}" not in added():
        pytest.skip("this host has no systemctl")
    stand_in = script(tmp_path, f"usr/lib/sysenv-ns/bin/{name}")
    for directory, program in (("real", name), ("python", "python3")):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / program).write_text(_ECHO.replace("$0", directory))
        (tmp_path / directory / program).chmod(0o755)
    text = stand_in.read_text().replace("/usr/bin /bin /usr/sbin /sbin", str(tmp_path / "real"))
    stand_in.write_text(text.replace("/usr/bin/python3", str(tmp_path / "python" / "python3")))
    return stand_in


def _ask(stand_in: Path, *arguments: str, **variables: str) -> str:
    variables["PATH"] = os.environ["PATH"]
    command = ["sh", str(stand_in), *arguments]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return str(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["enable", "--now", "a b.service"], "real 1 [enable] [a b.service]"),
        (["--now", "mask", "x"], "real 1 [mask] [x]"),
        (["restart", "x"], "real 1 [restart] [x]"),
        ([], "real 1"),
    ],
)
@pytest.mark.parametrize("variable", ["DPKG_MAINTSCRIPT_NAME", "DPKG_HOOK_ACTION"])
def test_scripts_of_packages_start_nothing(tmp_path: Path, variable: str, arguments: list[str], expected: str) -> None:
    systemctl = _stand_in(tmp_path, "systemctl")
    assert _ask(systemctl, *arguments, **{variable: "x"}) == expected
    assert _ask(systemctl, *arguments, **{variable: "x", "SYSTEMD_OFFLINE": "1"}) == expected


def test_scripts_of_packages_use_init_scripts_for_nothing(tmp_path: Path) -> None:
    assert _ask(_stand_in(tmp_path, "service"), "ssh", "start", DPKG_MAINTSCRIPT_NAME="postinst") == ""


@pytest.mark.parametrize("manager", ["dpkg", "rpm", "dnf", "pacman", "odd) name (rpm"])
def test_package_managers_are_known_by_their_names(tmp_path: Path, manager: str) -> None:
    """Where their variables got lost, or there are none."""
    systemctl = _stand_in(tmp_path, "systemctl")
    parent = (
        f"open('/proc/self/comm', 'w').write('{manager}'); import subprocess; subprocess.run(['sh', '{systemctl}'])"
    )
    found = subprocess.run(
        ["python3", "-c", parent], check=True, capture_output=True, text=True, env={"PATH": "/usr/bin"}
    )
    assert found.stdout.split()[0] == ("python" if manager.startswith("odd") else "real")


@pytest.mark.parametrize("name", ["systemctl", "service", "journalctl"])
def test_what_a_person_orders_is_carried_out_inside(tmp_path: Path, name: str) -> None:
    said = _ask(_stand_in(tmp_path, name), "start", "a b", SYSTEMD_OFFLINE="1")
    assert said == f"python 1 [-I] [-S] [-B] [/usr/lib/sysenv-ns/python/sysenv_ns/within] [{name}] [start] [a b]"


@pytest.mark.parametrize("name", ["systemctl", "journalctl"])
def test_who_wants_to_speak_to_the_host_does(tmp_path: Path, name: str) -> None:
    assert _ask(_stand_in(tmp_path, name), "--user", "x", SYSTEMD_OFFLINE="0") == "real 0 [--user] [x]"


def test_without_python_nothing_is_pretended(tmp_path: Path) -> None:
    systemctl = _stand_in(tmp_path, "systemctl")
    (tmp_path / "python" / "python3").unlink()
    result = subprocess.run(["sh", systemctl, "start", "x"], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert "which this environment does not have\nhint: apt-get install python3" in result.stderr


def test_a_changed_program_is_an_addition_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "find_program", lambda name: f"/usr/bin/{name}")  # a small host may have no systemctl
    versions = [found.version for path, found in added().items() if path.endswith("/within/orders.py")]
    status = (Path(services.__file__).parent.parent / "within" / "orders.py").stat()
    assert versions == [(status.st_size, status.st_mtime_ns)]


def test_the_hosts_environment_is_kept() -> None:
    content = added()["etc/environment"].content
    host = Path("/etc/environment")
    ours = "SYSTEMD_OFFLINE=1\nTMUX_TMPDIR=/run/sysenv-ns/sockets\n"
    assert content.startswith(ours + (host.read_text() if host.exists() else ""))  # of two lines the later one counts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/usr/local/games"),
        ('A=1\nPATH="/a:/b"\n', "/a:/b"),
        ("MANPATH=/x\nPATH=/a\n", "/a"),
    ],
)
def test_sessions_with_an_empty_environment_find_the_stand_ins(text: str, expected: str) -> None:
    assert services._path_after(text) == f'PATH="/usr/lib/sysenv-ns/bin:{expected}"\n'


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('DPkg::Pre-Invoke {"mount -o remount,exec /tmp";};\n', 'DPkg::Pre-Invoke {"true";};\n'),
        (
            'DPkg { Pre-Invoke { "if [ -x /usr/bin/etckeeper ]; then etckeeper pre-install; fi"; "own"; }; };\n',
            'DPkg { Pre-Invoke { "true"; "own"; }; };\n',
        ),
        ('DPkg::Pre-Install-Pkgs:: "/usr/bin/apt-listbugs apt";\n', 'DPkg::Pre-Install-Pkgs:: "cat > /dev/null";\n'),
        ('A "x\\"y"; DPkg::Post-Invoke {"test -x \\"/usr/lib/needrestart/x\\" || true"; };', None),
        ('Acquire::http::Proxy "http://proxy:3142";\nDPkg::Post-Invoke {"update-mine";};\n', None),
    ],
)
def test_hooks_that_look_after_the_host_do_nothing(text: str, expected: str | None) -> None:
    found = services.without_hooks(text)
    if "needrestart" in text:
        assert found == 'A "x\\"y"; DPkg::Post-Invoke {"true"; };'
    else:
        assert found == (text if expected is None else expected)
