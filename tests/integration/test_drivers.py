"""All drivers on all file systems; and what only some have: the server of fuse, and the way to root through sudo."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from . import accounts, machines
from .debs import Deb, change
from .disks import disk
from .machines import Machine
from .support import (
    BASE_LIMIT,
    ROOT_RUN,
    START_LIMIT,
    Environment,
    Tool,
    describe,
    finish,
    line,
    processes_of,
    refused,
    succeeded,
    wait_for,
)

_CHROOT = """
mount --bind "$1" "$2"
mkdir -p "$3"
mount --rbind / "$3"
root=$3
shift 3
exec /usr/sbin/chroot "$root" "$@"
"""

# What no overlay over the host's own files can do for a user, and dpkg does all the time.
_CHANGES = """
ln /usr/bin/sort /usr/bin/sort.old; echo "#!/bin/sh" > /usr/bin/sort.new; mv /usr/bin/sort.new /usr/bin/sort
chmod 700 /usr/bin/wc; chown 33 /usr/bin/wc; touch -d @0 /usr/bin/wc
echo more >> "$1"
rm -r /usr/share/doc; mkdir /usr/share/doc; mv /opt/inner /opt/moved || cp -a /opt/inner /opt/moved
echo 127.1.1.1 changed >> /etc/hosts
"""
_CHECKS = """
/usr/bin/sort.old --version | head -n 1; stat -c '%a %Y' /usr/bin/wc
tail -c 5 "$1"; ls -A /usr/share/doc; cat /opt/moved/file; tail -n 1 /etc/hosts
dpkg-query --show --showformat='${Version}\\n' dash test-package; test-program; dpkg --verify test-package
"""


@pytest.fixture(params=["ext4", "xfs", pytest.param("btrfs", marks=pytest.mark.matrix)])
def host_on_a_disk(request: pytest.FixtureRequest, small_host: Path, tool: Tool) -> Iterator[Machine]:
    """A small host, its store on the same disk as its system, where everybody may open /dev/fuse."""
    with disk(request.param, tool.account) as place:
        root = place.directory / "root"
        subprocess.run(["cp", "-a", small_host, root], check=True)
        accounts.make_fuse(root / "mnt/fuse")
        store = root / "srv" / "store"
        store.mkdir(mode=0o700, parents=True)
        os.chown(store, tool.account.uid, tool.account.gid)
        with machines.started(root, tool.at(Path("/srv/store"))) as machine:
            machine.sh("mount --bind /mnt/fuse /dev/fuse; mkdir /opt/inner; echo inner > /opt/inner/file")
            yield machine


@pytest.mark.modes("single", more=("full",))
def test_every_driver_on_every_file_system(host_on_a_disk: Machine, request: pytest.FixtureRequest) -> None:
    machine, tool = host_on_a_disk, host_on_a_disk.tool
    if tool.mode == "full":
        accounts.prepare_mounts(tool.launcher, tool.account, *machine.prefix)
    library = machine.sh("realpath /usr/lib/*/libc.so.6").strip()
    files = {"/usr/bin/test-program": "#!/bin/sh\necho two\n", "/etc/test.conf": "2\n"}
    path = Deb("test-package", "2", files=files).build(tool.account.home)
    shell = machine.sh("dpkg-query --show --showformat='${Version}' dash")
    before = machine.sh("find /usr /etc /opt /var -exec stat -c '%n %s %Y %a' {} +")
    drivers = ["stub", "copy", "fuse" if tool.mode == "single" else "idmap"]
    if request.node.callspec.params["host_on_a_disk"] == "ext4":
        refused(tool.run("create", "--driver", "reflink", "x", limit=BASE_LIMIT), 1, "reflink", "SYSENV_NS_HOME")
    else:
        drivers.append("reflink")
    for driver in drivers:
        succeeded(tool.run("create", "--driver", driver, "--id-map", tool.mode, driver, limit=BASE_LIMIT))
        environment = tool.environment(driver)
        environment.sh(_CHANGES, library)
        change(environment, 'dpkg --install "$1"', str(path))
        version = environment.sh("/usr/bin/sort.old --version | head -n 1")
        found = environment.sh(_CHECKS, library)
        assert found == f"{version}700 0\nmore\ninner\n127.1.1.1 changed\n{shell}\n2\ntwo\n", driver
        tool.end(driver)
    assert machine.sh("find /usr /etc /opt /var -exec stat -c '%n %s %Y %a' {} +") == before


def _servers(tool: Tool) -> list[str]:
    """The command lines of the user's processes that serve an overlay."""
    uid = tool.account.uid
    lines = (Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in processes_of(range(uid, uid + 1)))
    return [line for line in lines if "fuse-overlayfs" in line]


@pytest.mark.modes("fuse")
def test_server_ends_with_the_environment(environment: Environment) -> None:
    session = environment.tool.start("exec", environment.name, "--", "sh", "-c", "echo ready; exec sleep 300")
    assert line(session) == "ready\n"
    assert len(_servers(environment.tool)) == 1
    assert [process["pid"] for process in environment.tool.status(environment.name)["processes"]] == [session.pid]
    session.kill()
    finish(session)
    wait_for(lambda: _servers(environment.tool) == [])


@pytest.mark.modes("fuse")
def test_next_session_finds_what_the_last_one_wrote(environment: Environment) -> None:
    """A server that is still writing is waited for."""
    for number in range(10):
        environment.sh(
            'dd if=/dev/zero of=/opt/$1 bs=1M count=8 status=none; test "$(ls /opt | wc -l)" -gt "$1"', str(number)
        )
    assert environment.sh("cat /opt/[0-9] | wc -c") == f"{10 * 8 << 20}\n"


@pytest.mark.modes("fuse")
def test_fuse_that_may_not_be_opened(tool: Tool, shared: Path) -> None:
    if not ROOT_RUN:
        pytest.skip("only root can make a device")
    node = shared / "closed-fuse"
    os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(10, 229))
    command = ("unshare", "--mount", "sh", "-ec", 'mount --bind "$1" /dev/fuse; shift; exec "$@"', "sh", str(node))
    closed = replace(tool, prefix=(*command, *tool.account.setpriv()))
    refused(closed.run("create", "--driver", "fuse", "closed"), 1, "/dev/fuse", "EACCES", "chmod 666")
    result = closed.run("doctor")
    assert "driver fuse     no: opening /dev/fuse failed" in result.stdout, describe(result)


@pytest.mark.modes("sudo")
def test_sudo_is_announced(environment: Environment) -> None:
    result = succeeded(environment.exec("true"))
    assert result.stderr == f"sysenv-ns: {environment.name} has the driver root: continuing with sudo\n"
    assert list((environment.tool.store / "trash").iterdir()) == []
    account, status = environment.tool.account, environment.tool.store.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (account.uid, account.gid, 0o700)


@pytest.mark.modes("sudo")
def test_the_users_own_shell_again(environment: Environment) -> None:
    """The command finds what the caller had; who may become root inside, the host's sudo says."""
    account = environment.tool.account
    script = "id -u; id -g; id -G; echo $HOME; umask; pwd; sudo -n id -u; sudo -n sh -c 'echo $SYSENV_NS'"
    assert environment.me(script).split() == [
        *(str(account.uid), str(account.gid), *map(str, sorted(account.groups, key=lambda g: g != account.gid))),
        *(str(account.home), "0022", str(account.home), "0", environment.name),
    ]
    environment.sh("touch /usr/of-root")
    assert environment.me("stat -c %u /usr/of-root; test ! -w /usr/of-root") == "0\n"
    other = environment.exec("setpriv", "--reuid", "33", "--regid", "33", "--clear-groups", "sudo", "-n", "true")
    assert other.returncode != 0


@pytest.mark.modes("sudo")
def test_variables_go_through_sudo(environment: Environment) -> None:
    odd = {"EMPTY": "", "TWO": "a\nb", "BYTES": "\udcff", "PYTHONPATH": "/x", "SECRET": "word"}
    prefix = (*environment.tool.prefix, "env", *(f"{name}={value}" for name, value in odd.items()))
    script = 'printf "%s|" "$EMPTY" "$TWO" "$BYTES" "$PYTHONPATH" "$SECRET" "$@"'
    for identity in ("--me", "--root"):
        result = environment.exec("sh", "-c", script, "sh", "x y", "", prefix=prefix, identity=identity)
        assert succeeded(result).stdout == "|a\nb|\udcff|/x|word|x y||"


@pytest.mark.modes("sudo")
def test_sessions_through_sudo_share_the_environment(environment: Environment) -> None:
    first = environment.tool.start(
        "exec", environment.name, "--", "sh", "-c", "echo one > /run/x; echo r; exec sleep 300"
    )
    assert line(first) == "r\n"
    assert environment.sh("cat /run/x") == "one\n"
    commands = [process["command"] for process in environment.tool.status(environment.name)["processes"]]
    assert commands == ["sleep 300"]
    refused(environment.tool.run("remove", environment.name), 1, "running")
    succeeded(environment.tool.run("stop", environment.name))
    finish(first)
    assert environment.tool.status(environment.name)["running"] is False


@pytest.mark.modes("sudo")
def test_exit_statuses_through_sudo(environment: Environment) -> None:
    for status in (0, 1, 7, 125, 255):
        assert environment.exec("sh", "-c", f"exit {status}").returncode == status
    assert environment.exec("no-such-command").returncode == 127


@pytest.mark.modes("sudo")
def test_sudo_where_nothing_else_works(tool: Tool, shared: Path) -> None:
    """In a chroot nobody may make a user namespace: sudo is used, after saying why, unless a driver is demanded."""
    if not ROOT_RUN:
        pytest.skip("only root can make a chroot")
    sudoers = tool.prefix[6]
    prefix = ("unshare", "--mount", "sh", "-ec", _CHROOT, "sh", sudoers, "/etc/sudoers", str(shared / "root"))
    jailed = replace(tool, prefix=(*prefix, *tool.account.setpriv()))
    refused(jailed.run("create", "--driver", "stub", "jailed"), 1, "user namespace", "EPERM", "chroot")
    result = succeeded(jailed.run("exec", "jailed", "--", "id", "-u", limit=2 * START_LIMIT))
    assert result.stdout == "0\n"
    assert "no driver works here without root (creating a user namespace failed" in result.stderr
    assert "continuing with sudo" in result.stderr
    assert tool.status("jailed")["driver"] == "root"
    succeeded(tool.run("remove", "--purge", "jailed"))
