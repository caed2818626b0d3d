"""Where the store may lie: what works there, and what is refused with a reason and a way out."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .machines import Machine
from .support import BASE_LIMIT, Environment, describe, refused, succeeded


@pytest.fixture
def machine(new_machine: Machine) -> Machine:
    """What is tested here is the building of the base."""
    return new_machine


_CHANGES = """
cp /bin/true /opt/true
/opt/true
chmod u+s /opt/true
test -u /opt/true
mkfifo /opt/pipe
ln /usr/bin/sort /usr/bin/sort2
mv /usr/bin/cat /usr/bin/cat2
rm -r /usr/share/doc
mkdir /usr/share/doc
echo new > /usr/share/doc/new
setfattr -n user.test -v 1 /opt/true
"""
_CHECK = """
/opt/true
test -u /opt/true && test -p /opt/pipe && ! test -e /usr/bin/cat
echo a | sort2 | cat2
ls /usr/share/doc
getfattr --absolute-names --only-values -n user.test /opt/true
"""


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_disks_and_memory_work(machine: Machine, fstype: str) -> None:
    _mount(machine, fstype, "defaults")
    _works(machine, Path("/media/store"))


@pytest.mark.modes("full", more=("single", "root"))
@pytest.mark.parametrize("options", ["nosuid", "nodev", "noexec", "nosuid,nodev,noexec,noatime"])
def test_the_options_of_its_mount_do_not_matter(machine: Machine, options: str) -> None:
    """An overlay's files are executed, and set-user-id, by the flags of the overlay's own mount."""
    _mount(machine, "ext4", options)
    environment = _works(machine, Path("/media/store"))
    if environment.tool.mode == "full":
        assert environment.me("sudo -n id -u") == "0\n"


@pytest.mark.modes("full", "root", more=("single",))
@pytest.mark.parametrize("place", ["/srv/store", "/opt/a/store", "/var/lib/store", "/usr/local/store", "/store"])
def test_a_store_in_a_system_directory(machine: Machine, place: str) -> None:
    """It is neither mirrored into its own base nor part of a data-only lower."""
    machine.sh('mkdir -p "$1"; chown "$2" "$1"; chmod 700 "$1"', place, str(machine.tool.account.uid))
    machine.sh('mkdir "$1/../beside"; head -c 9999 /dev/urandom > "$1/../beside/data"', place)
    environment = _works(machine, Path(place))
    data = f"{place}/../beside/data"
    assert environment.sh('sha256sum "$1"', data) == machine.sh('sha256sum "$1"', data)
    environment.sh('echo new > "$1/../new"', place)
    assert (
        machine.sh('find "$1/base" -name stubs-1 | wc -l; find "$1" -path "*tree$1/*" | wc -l', place).split()[1] == "0"
    )


@pytest.mark.modes("full", more=("single",))
def test_a_home_in_a_system_directory(machine: Machine) -> None:
    owner = f"{machine.tool.account.uid}:{machine.tool.account.gid}"
    machine.sh('mkdir -p /srv/www/you; chown "$1" /srv/www/you', owner)
    there = replace(machine.tool, prefix=(*machine.tool.prefix, "env", "HOME=/srv/www/you"))
    environment = _works(replace(machine, tool=there), Path("/srv/www/you/.local/share/sysenv-ns"))
    environment.sh("echo kept > /srv/www/you/file; echo new > /srv/www/file")
    assert machine.sh("cat /srv/www/you/file; ls /srv/www") == "kept\nyou\n"


def _mount(machine: Machine, fstype: str, options: str) -> None:
    source = "test"
    if fstype != "tmpfs":
        source = machine.image("disk", fstype)
        options += ",loop"
    machine.sh('mount -t "$1" -o "$2" "$3" /media; chown "$4" /media', fstype, options, source, _uid(machine))


def _uid(machine: Machine) -> str:
    return str(machine.tool.account.uid)


def _works(machine: Machine, store: Path) -> Environment:
    """Changes of every kind are there in the next session, and nothing is left when the environment is removed."""
    there = replace(machine, tool=machine.tool.at(store))
    environment = there.create()
    environment.sh(_CHANGES)
    assert environment.sh(_CHECK).split() == ["a", "new", "1"]
    succeeded(there.tool.run("create", *there.tool.options, "second", limit=BASE_LIMIT))
    succeeded(there.tool.run("remove", "--purge", "second"))
    assert machine.sh('ls "$1/envs" "$1/trash"', str(store)) == f"{store}/envs:\ntest\n\n{store}/trash:\n"
    return environment


@contextlib.contextmanager
def _unfit(machine: Machine, kind: str) -> Iterator[None]:
    """A file system at /media that belongs to the user and cannot hold an environment; and no fuse-overlayfs."""
    layers = "lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work"
    script = {
        "overlay": f"mount -t overlay -o {layers} test /media",
        "fuse": f"fuse-overlayfs -o {layers},allow_other test /media",
        "ramfs": "mount -t ramfs test /media",
    }[kind]
    machine.sh(f"mkdir /mnt/lower /mnt/upper /mnt/work; {script}; rm /usr/bin/fuse-overlayfs")
    try:
        machine.sh('chown "$1" /media', _uid(machine))
        yield
    finally:
        machine.sh("umount /media")  # ends the server, which keeps the machine's mounts


@pytest.mark.modes("full", more=("single", "root"))
@pytest.mark.parametrize("kind", ["overlay", "fuse", "ramfs"])
def test_what_cannot_hold_an_environment_is_refused(machine: Machine, kind: str) -> None:
    tool = machine.tool.at(Path("/media/store"))
    with _unfit(machine, kind):
        for arguments in (
            ("create", "test"),
            ("create", "test", "--driver", "root" if tool.mode == "root" else "stub"),
        ):
            result = tool.run(*arguments)
            refused(result, 1, f"/media/store lies on {kind}", "set SYSENV_NS_HOME to", "ext4")
            assert "sudo" not in result.stderr, describe(result)
        refused(tool.run("exec", "test", "--", "true"), 125, f"lies on {kind}", "SYSENV_NS_HOME")
        assert machine.sh("ls /media/store/envs /media/store/base /media/store/trash").split() == [
            "/media/store/base:",
            "CACHEDIR.TAG",
            "/media/store/envs:",
            "/media/store/trash:",
        ]
        diagnosis = tool.run("doctor")
        assert f"lies on {kind}" in diagnosis.stdout, describe(diagnosis)


def test_a_disk_mounted_read_only_is_refused(machine: Machine) -> None:
    _mount(machine, "ext4", "defaults")
    machine.sh("mount -o remount,ro /media")
    result = machine.tool.at(Path("/media/store")).run("create", "test")
    refused(result, 1, "Read-only file system", "set SYSENV_NS_HOME")


# linux/posix_acl_xattr.h: version 2; owner rwx, user 33 rwx, group r-x, mask rwx, others nothing
_CLOSED = b"".join(
    [struct.pack("=I", 2)]
    + [struct.pack("=HHI", *entry) for entry in ((1, 7, 2**32 - 1), (2, 7, 33), (4, 5, 2**32 - 1))]
    + [struct.pack("=HHI", *entry) for entry in ((0x10, 7, 2**32 - 1), (0x20, 0, 2**32 - 1))]
)


@pytest.mark.modes("full", more=("single",))
def test_a_default_access_list_above_the_store_decides_nothing(machine: Machine) -> None:
    """Where an administrator has given homes one, all that is made below inherits it."""
    machine.sh('mkdir -m 755 /srv/above; chown "$1" /srv/above', _uid(machine))
    os.setxattr(machine.root / "srv/above", "system.posix_acl_default", _CLOSED)
    there = replace(machine, tool=machine.tool.at(Path("/srv/above/store")))
    environment = there.create()
    places = ("/etc", "/etc/passwd", "/usr/bin", "/usr/bin/env", "/var/lib", "/opt")
    modes = environment.sh('stat -c %a "$@"', *places).split()
    assert modes == machine.sh('stat -c %a "$@"', *places).split()
    environment.sh("mkdir /opt/made; echo text > /opt/made/file; test $(stat -c %a /opt/made) = 755")
    found = environment.sh("python3 -c \"import os; print([os.listxattr(p) for p in ('/etc', '/opt/made')])\"")
    assert "posix_acl" not in found
    if there.tool.mode == "full":
        environment.sh("setpriv --reuid 33 --regid 33 --clear-groups cat /etc/passwd /opt/made/file > /dev/null")
    succeeded(there.tool.run("remove", "--purge", "test"))
    succeeded(there.tool.run("remove", "--base"))
