"""/run: what the environment's packages need there, and what of the host shows in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .machines import Machine
from .support import Environment, end, finish, line, sleeper, succeeded

_LINES = r"""
cat > /usr/lib/tmpfiles.d/zz-test.conf <<END
d /run/of-a-package 2771 daemon mail
D /var/run/deep/below - - -
f /run/of-a-package/file 0640 - - - said once
L /run/link - - - - /dev/null
d /run/masked
d /var/lib/not-run
d /run/user/here
END
echo 'd /run/hidden' > /usr/lib/tmpfiles.d/zz-hidden.conf
ln -s /dev/null /etc/tmpfiles.d/zz-hidden.conf
ln -s /nowhere/at/all /etc/tmpfiles.d/zz-dangling.conf
mkfifo /etc/tmpfiles.d/zz-fifo.conf
"""


@pytest.mark.modes("full", "single", "root", more=("fuse",))
def test_tmpfiles_at_each_start(new_environment: Environment) -> None:
    """As at boot: screen, sshd and many daemons rely on it."""
    new_environment.sh(f"mkdir -p /etc/tmpfiles.d; {_LINES}")
    for _ in range(2):
        paths = "/run/of-a-package /run/deep /run/deep/below /run/of-a-package/file"
        seen = new_environment.sh(f"stat -c '%a %U %G' {paths}; cat /run/of-a-package/file; readlink /run/link")
        owner = "root root" if new_environment.tool.mode == "single" else "daemon mail"
        expected = f"2771 {owner}\n755 root root\n755 root root\n640 root root\nsaid once/dev/null\n"
        assert seen == expected
        new_environment.sh("test -d /run/masked && ! test -e /run/hidden && ! test -e /var/lib/not-run")
        new_environment.sh("rm -r /run/of-a-package /run/deep")


# Daemons of a host: each listens at a path of its own and says its name to whoever connects. Ends with its input.
_DAEMONS = """
import os, socket, sys, threading
def serve(name, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    while True:
        with listener.accept()[0] as connection:
            connection.sendall(name.encode())
for argument in sys.argv[1:]:
    name, _, path = argument.partition("=")
    threading.Thread(target=serve, args=(name, path), daemon=True).start()
while not all(os.path.exists(argument.partition("=")[2]) for argument in sys.argv[1:]):
    pass
print("ready", flush=True)
sys.stdin.read()
"""
_ASK = """
import socket, sys
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        print(client.recv(99).decode())
"""


def _daemons(machine: Machine, *listeners: str) -> subprocess.Popen[str]:
    command = [*machine.prefix, "/usr/bin/python3", "-c", _DAEMONS, *listeners]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert line(process) == "ready\n"
    return process


def _ask(environment: Environment, *paths: str) -> list[str]:
    return environment.sh('exec /usr/bin/python3 -c "$@"', _ASK, *paths).split()


_UNIT = """
printf '[Service]\\nUser=daemon\\nGroup=mail\\nRuntimeDirectoryMode=0750\\n' > own.service
echo RuntimeDirectory=unit unit/below >> own.service
printf '[Service]\\n# RuntimeDirectory=no\\nRuntimeDirectory=%%i ../no\\n' > other.service
printf '[Service]\\nRuntimeDirectory=sshd\\n' > ssh.service
"""


@pytest.mark.modes("full", more=("single", "root"))
def test_directories_of_services(new_environment: Environment) -> None:
    """sshd and others have theirs from the unit, by systemd, which does not run inside."""
    new_environment.sh(f"mkdir -p /usr/lib/systemd/system; cd /usr/lib/systemd/system; {_UNIT}")
    owner = "root root" if new_environment.tool.mode == "single" else "daemon mail"
    seen = new_environment.sh("stat -c '%a %U %G' /run/unit /run/unit/below /run/sshd; ! test -e /run/no")
    assert seen == f"750 {owner}\n" * 2 + "755 root root\n"


@pytest.mark.modes("full", "single", more=("root",))
def test_sockets_of_the_host_are_live(machine: Machine) -> None:
    """Of a daemon that is started anew, of one that comes later, and in a directory that was deleted meanwhile."""
    machine.sh("mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/lock")
    environment = machine.create()
    early, late = ["/run/docker.sock", "/run/dbus/bus", "/run/avahi-daemon/socket"], ["/run/late.sock", "/run/new/er/s"]
    first = _daemons(machine, *(f"first={path}" for path in early))
    session = sleeper(environment)
    try:
        assert _ask(environment, *early) == ["first"] * 3
        finish(first)
        machine.sh("rm -r /run/avahi-daemon")
        second = _daemons(machine, *(f"second={path}" for path in (*early, *late)))
        # Each of these joins; a program that has been running sees the same.
        assert _ask(environment, *early, *late) == ["second"] * 5
        own = f"own={early[0]}"
        script = 'exec /usr/bin/python3 -c "$@" < /dev/null'
        environment.sh(f"{script}; test -S {early[0]} && test ! -L {early[0]}", _DAEMONS, own)
        assert machine.sh('exec /usr/bin/python3 -c "$@"', _ASK, early[0]) == "second\n"
        finish(second)
    finally:
        end(session)


@pytest.mark.modes("full", more=("single", "root"))
def test_a_runtime_directory_that_is_mounted_later(machine: Machine) -> None:
    """Of a user who logs in after a job of his had started the environment."""
    machine.sh("mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/lock /run/user")
    environment = machine.create()
    session = sleeper(environment)
    try:
        account = machine.tool.account
        machine.sh(
            'mkdir "$1"; mount -t tmpfs -o "mode=700,uid=$2,gid=$3" tmpfs "$1"',
            f"/run/user/{account.uid}",
            str(account.uid),
            str(account.gid),
        )
        identity = "--me" if machine.tool.mode == "full" else "--root"
        environment.sh(f"echo written > /run/user/{account.uid}/file", identity=identity)
        assert machine.sh(f"cat /run/user/{account.uid}/file") == "written\n"
        environment.sh("rm -rf /run/host/run/late* 2>/dev/null; ! touch /run/host/run/x 2>/dev/null")
    finally:
        end(session)


@pytest.mark.modes("full", more=("single", "fuse"))
def test_what_is_live_is_no_change(new_environment: Environment, file: Path) -> None:
    """For diff, snapshots, apply and archives an environment that has only run has nothing of its own."""
    tool, name = new_environment.tool, new_environment.name
    new_environment.sh("cat /etc/resolv.conf /etc/hosts /etc/localtime /run/host/etc/hostname > /dev/null")
    assert succeeded(tool.run("diff", name)).stdout == ""
    assert f"nothing of {name} to apply" in succeeded(tool.run("apply", "--dry-run", name)).stderr
    succeeded(tool.run("snapshot", name, "before"))
    succeeded(tool.run("export", name, str(file)))
    listing = succeeded(new_environment.exec("tar", "-taf", str(file))).stdout.split("\n")
    changes = [path for path in listing if "/etc/" in path and not path.startswith("origins/")]
    assert [path for path in changes if not path.endswith(("/etc/", "/debian_chroot"))] == []
    succeeded(tool.run("rollback", name, "before"))
    assert succeeded(tool.run("diff", name)).stdout == ""


@pytest.mark.modes("full", "single", more=("fuse",))
def test_name_services_below_var(machine: Machine) -> None:
    """sssd is started anew while something runs, its answers in memory expire; so is a database."""
    paths = ["/var/lib/sss/pipes/nss", "/var/lib/mysql/mysqld.sock", "/var/spool/of/a/daemon.sock"]
    machine.sh("mkdir -p /var/lib/sss/mc; echo old > /var/lib/sss/mc/passwd")
    first = _daemons(machine, *(f"first={path}" for path in paths))
    environment = machine.create()
    session = sleeper(environment)
    try:
        assert _ask(environment, *paths) == ["first"] * 3
        finish(first)
        second = _daemons(machine, *(f"second={path}" for path in paths))
        machine.sh("cd /var/lib/sss/mc; echo new > p; mv p passwd")
        assert _ask(environment, *paths) == ["second"] * 3
        assert environment.sh("cat /var/lib/sss/mc/passwd") == "new\n"
        assert succeeded(environment.tool.run("diff", environment.name, "--", "/var")).stdout == ""
        environment.sh('exec /usr/bin/python3 -c "$@" < /dev/null', _DAEMONS, f"own={paths[1]}")
        assert machine.sh('exec /usr/bin/python3 -c "$@"', _ASK, paths[1]) == "second\n"
        finish(second)
    finally:
        end(session)
