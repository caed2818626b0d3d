"""The host's mounts below system directories: what they hold shows inside, and the host never sees what is written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .debs import Deb
from .machines import Machine, output, unmerge_usr
from .support import Argument, Environment, finish, line, stays_on_its_file_system, succeeded


@pytest.fixture
def machine(new_machine: Machine) -> Machine:
    """What is tested here is the building of the base."""
    return new_machine


# What is mounted on the directory $1. Guests are bound: whoever could not write there on the host cannot do it inside.
_GUESTS = {
    "tmpfs": 'memory "$1"',
    "directory": 'mkdir /mnt/source; mount --bind /mnt/source "$1"',
    "nested": 'memory "$1"; mkdir "$1/inner"; mount -t tmpfs test "$1/inner"; echo a > "$1/inner/f"',
    "disk in a guest": 'memory "$1"; mkdir "$1/disk"; mount -o loop /mnt/small "$1/disk"',
    "masked": 'memory "$1"; echo hidden > "$1/file"; memory "$1"',
    "masked by an ancestor": 'mkdir "$1/a"; mount -t tmpfs test "$1/a"; touch "$1/a/file"; memory "$1"',
    "mounted read-only": 'memory "$1"; echo guest > "$1/file"; mount -o remount,ro "$1"',
}
# Disks are parts of the system: what is written there belongs to the environment.
_DISKS = {
    "ext4": 'mount -o loop /mnt/ext4 "$1"',
    "xfs": 'mount -o loop /mnt/xfs "$1"',
    "btrfs": 'mount -o loop /mnt/btrfs "$1"',
    "btrfs subvolume": 'mount -o loop,subvol=subvolume /mnt/btrfs "$1"',
    "a disk a second time": 'mount --bind /opt/xfs "$1"',
    "read-only": 'mount -o loop /mnt/ext4-2 "$1"; echo disk > "$1/file"; mount -o remount,ro "$1"',
    "a disk on a disk": 'mount -o loop /mnt/ext4-3 "$1"; mkdir "$1/d"; mount -o loop /mnt/ext4-4 "$1/d"',
}
_NAMES: tuple[Argument, ...] = (
    "with space",
    "tab\there",
    "new\nline",
    r"back\slash",
    r"octal\040",
    "hash#",
    "-dash",
    ":colon,comma",
    b"\xff",
)


@pytest.mark.modes("full", "root", more=("single",))
def test_guests_show_and_are_the_hosts(machine: Machine) -> None:
    machine.image("small", "ext4", size="16M")
    _mount(machine, "/opt", _GUESTS, "guest")
    environment = machine.create()
    for name in _GUESTS:
        assert environment.sh('cat "$1/file"; ! touch "$1/new" 2>/dev/null', f"/opt/{name}") == "guest\n"
    assert environment.sh("cat /opt/nested/inner/f; ls '/opt/disk in a guest/disk'") == "a\nlost+found\n"
    # Beside them, everything is the environment's.
    _writable(environment, "/opt", "/usr/bin")


@pytest.mark.modes("full", "root", more=("single",))
def test_disks_are_overlaid(machine: Machine) -> None:
    for number in ("", "-2", "-3", "-4"):
        machine.image(f"ext4{number}", "ext4", size="16M")
    for fstype in ("xfs", "btrfs"):
        machine.image(fstype, fstype)
    script = 'mount -o loop "$1" /media; btrfs -q subvolume create /media/subvolume'
    output("unshare", "--mount", "sh", "-ec", script, "sh", machine.root / "mnt" / "btrfs")
    _mount(machine, "/opt", _DISKS, "disk")
    before = machine.sh("cd /opt; find . -exec stat -c '%n %s %Y' {} +")
    environment = machine.create()
    for name in _DISKS:
        assert environment.sh('cat "$1/file"', f"/opt/{name}") == "disk\n"
    _writable(environment, *(f"/opt/{name}" for name in _DISKS), "/opt/a disk on a disk/d")
    link = "cp" if environment.tool.mode == "root" else "ln"  # one overlay for all; real root has one for each disk
    environment.sh(f"cd /opt/ext4; echo x >> file; mv large ..; {link} ../large ../xfs/link; rm -r ../btrfs/directory")
    check = "cat /opt/ext4/file; sha256sum < /opt/xfs/link; ls /opt/btrfs"
    assert environment.sh(check).split() == ["disk", "x", _digest(machine), "-", "file", "large", "new", "subvolume"]
    assert machine.sh("cd /opt; find . -exec stat -c '%n %s %Y' {} +") == before


def _mount(machine: Machine, parent: str, scripts: dict[str, str], content: str) -> None:
    """Carry out each script on a directory of its own, and put files there, as far as it has not done that itself."""
    fill = """
        [ -e "$1/file" ] || echo "$2" > "$1/file"
        [ ! -w "$1" ] || { mkdir -p "$1/directory"; head -c 100000 /usr/bin/bash > "$1/large"; }
    """
    memory = 'memory() { mount -t tmpfs -o mode=755 test "$1"; }'
    for name, script in scripts.items():
        machine.sh(f'mkdir -p "$1"\n{memory}\n{script}\n{fill}', f"{parent}/{name}", content)


def _digest(machine: Machine) -> str:
    return machine.sh("head -c 100000 /usr/bin/bash | sha256sum").split()[0]


def _writable(environment: Environment, *directories: str) -> None:
    """What root of the environment writes there is there in the next session."""
    environment.sh('for directory; do echo new > "$directory/new"; done', *directories)
    environment.sh('for directory; do grep -qx new "$directory/new"; done', *directories)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_any_name_can_be_a_mount_point(machine: Machine, kind: str) -> None:
    for number, name in enumerate(_NAMES):
        point = _path("/opt/names", name)
        machine.sh('mkdir -p -- "$1"', point)
        if kind == "tmpfs":
            machine.sh('mount -t tmpfs test -- "$1"', point)
        else:
            machine.image(f"{number}", "ext4", size="16M")
            machine.sh('mount -o loop "$2" -- "$1"', point, f"/mnt/{number}")
        machine.sh('echo "$2" > "$1/file"; mkdir "$1/below"', point, str(number))
    environment = machine.create()
    points = [_path("/opt/names", name) for name in _NAMES]
    expected = "".join(f"{number}\n" for number in range(len(_NAMES)))
    assert environment.sh('for point; do cat -- "$point/file"; test -d "$point/below"; done', *points) == expected
    inside = environment.sh("ls /opt/names | wc -l; ls -b /opt/names")
    assert inside == machine.sh("ls /opt/names | wc -l; ls -b /opt/names")


def _path(parent: str, name: Argument) -> Argument:
    return os.path.join(os.fsencode(parent), os.fsencode(name))


@pytest.mark.modes("full", "root", more=("single",))
def test_mounted_files(machine: Machine) -> None:
    machine.sh("""
        echo guest > /mnt/source
        for point in /usr/bin/guest "/opt/a file" /etc/guest.conf; do
            touch "$point"
            mount --bind /mnt/source "$point"
        done
    """)
    environment = machine.create()
    assert environment.sh('cat /usr/bin/guest "/opt/a file" /etc/guest.conf') == "guest\n" * 3
    assert environment.exec("sh", "-c", "echo x > /usr/bin/guest").returncode != 0
    if environment.tool.mode != "root":  # in /etc they are copied, so that packages may replace them
        environment.sh("echo new > /etc/new && mv /etc/new /etc/guest.conf")
        assert environment.sh("cat /etc/guest.conf") == "new\n"
    assert machine.sh("cat /mnt/source") == "guest\n"


_SYSTEM_DISKS = {
    "/usr": "ext4",
    "/usr/local": "xfs",
    "/opt": "btrfs",
    "/var": "xfs",
    "/var/log": "ext4",
    "/boot": "ext4",
}


@pytest.mark.modes("full", "root", more=("single",))
def test_every_system_directory_on_a_disk_of_its_own(machine: Machine, shared: Path) -> None:
    stays_on_its_file_system(machine.tool)
    machine.sh("for d in /usr/local/lib /opt/app /var/log/app; do mkdir $d; head -c 9999 /dev/urandom > $d/data; done")
    for point, fstype in _SYSTEM_DISKS.items():
        image = machine.image(point.replace("/", "-"), fstype)
        machine.sh(
            'mount -o loop "$2" /media; cp -a "$1/." /media; umount /media; mount -o loop "$2" "$1"', point, image
        )
    _is_a_whole_system(machine, shared)


def test_unmerged_usr(machine: Machine, shared: Path) -> None:
    unmerge_usr(machine.root)
    environment = _is_a_whole_system(machine, shared)
    assert environment.sh("stat -c %F /bin /sbin /lib") == "directory\n" * 3
    environment.sh("mv /bin/cat /usr/bin/cat; mv /usr/bin/sort /bin; ln /bin/ls /lib/ls; rm /bin/rm")
    assert environment.sh("echo b a | tr ' ' '\n' | sort | cat; /lib/ls -d /lib; ! test -e /bin/rm") == "a\nb\n/lib\n"
    assert machine.sh("ls /bin/cat /usr/bin/sort /bin/rm").count("\n") == 3


def test_system_directories_bound_from_elsewhere(machine: Machine, shared: Path) -> None:
    """As image-based systems do it."""
    stays_on_its_file_system(machine.tool)
    image = machine.image("disk", "ext4")
    machine.sh(
        """
        mkdir /data
        mount -o loop "$1" /data
        for directory in usr var opt; do
            cp -a /$directory /data
            mount --bind /data/$directory /$directory
        done
        """,
        image,
    )
    _is_a_whole_system(machine, shared)


def test_what_every_installation_writes_to_may_be_in_memory(machine: Machine, shared: Path) -> None:
    machine.sh("""
        for directory in /var/log /var/cache /var/lib/apt/lists; do
            mkdir -p $directory
            mount -t tmpfs test $directory
            echo host > $directory/file
        done
    """)
    environment = _is_a_whole_system(machine, shared)
    directories = ("/var/log", "/var/cache", "/var/lib/apt/lists")
    assert environment.sh('for directory; do cat "$directory/file"; done', *directories) == "host\n" * 3
    _writable(environment, *directories)
    assert machine.sh("ls /var/log /var/cache /var/lib/apt/lists").count("new") == 0


def _is_a_whole_system(machine: Machine, shared: Path) -> Environment:
    """All files that the user can read are there as on the host, which sees nothing of what is installed."""
    # dpkg's table is told of the stand-ins for files that the user cannot read.
    listing = (
        "cd /; find usr opt boot var/lib -type f -readable ! -path '*/sysenv-ns/*' ! -path var/lib/dpkg/status"
        " -exec sha256sum {} + | sort -k2"
    )
    outside = output(*machine.tool.prefix, "sh", "-c", listing)
    host = _state(machine)
    environment = machine.create()
    inside = environment.sh(listing, limit=300)
    assert set(outside.splitlines()) <= set(inside.splitlines())
    directory = shared / f"whole-{machine.tool.store.parent.parent.name}"
    directory.mkdir()
    files = {"/usr/bin/test-program": "#!/bin/sh\necho works\n", "/var/log/test/log": "x", "/opt/test/data": "x"}
    package = Deb("test-package", files=files).build(directory)
    # Not only its own triggers: on a small host dpkg comes to know of the others' at its first use.
    environment.sh('dpkg -i "$1"; dpkg --configure --pending', str(package))
    assert environment.sh("test-program; cat /var/log/test/log /opt/test/data") == "works\nxx"
    _writable(environment, "/usr", "/usr/bin", "/usr/local", "/opt", "/var", "/var/lib", "/var/log", "/boot", "/etc")
    assert environment.audit() == ""
    assert _state(machine) == host
    return environment


def _state(machine: Machine) -> str:
    """Everything there, but what Python writes when root runs the tool."""
    return machine.sh("""
        cd /
        find usr opt boot var etc -name __pycache__ -prune -o -type d -exec stat -c '%n %a' {} + | sort
        find usr opt boot var etc -name __pycache__ -prune -o ! -type d -exec stat -c '%n %s %Y %a' {} + | sort
    """)


@pytest.mark.modes("full", more=("single",))
def test_mounts_that_the_user_cannot_reach(machine: Machine) -> None:
    image = machine.image("disk", "ext4", size="16M")
    machine.sh(
        """
        mkdir -p /opt/closed/guest /opt/closed/disk /opt/listed/guest /opt/app
        mount -t tmpfs test /opt/closed/guest
        mount -t tmpfs test /opt/listed/guest
        mount -o loop "$1" /opt/closed/disk
        chmod 700 /opt/closed
        chmod 744 /opt/listed
        echo data > /opt/app/file
        """,
        image,
    )
    environment = machine.create()
    assert environment.sh("stat -c '%a' /opt/closed /opt/listed; ls /opt/closed /opt/listed/; cat /opt/app/file") == (
        "700\n744\n/opt/closed:\n\n/opt/listed/:\ndata\n"
    )
    _writable(environment, "/opt/closed", "/opt/listed", "/opt")


# A FUSE file system that nobody serves: other users are refused anything (EACCES), or all whom it is for (ENOTCONN).
_UNSERVED = """
import os, subprocess, sys
point, options = sys.argv[1:]
os.mknod("/run/fuse", 0o20600, os.makedev(10, 229))
descriptor = os.open("/run/fuse", os.O_RDWR)
os.unlink("/run/fuse")
options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0{options}"
subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "test", point], check=True, pass_fds=[descriptor])
"""


@pytest.mark.parametrize("options", ["", ",allow_other"], ids=["another user's", "dead"])
def test_a_file_system_that_refuses_does_not_hide_its_neighbours(machine: Machine, options: str) -> None:
    for point in ("/opt/refusing", "/refusing", "/usr/share/refusing", "/etc/refusing"):
        machine.sh('mkdir "$1"; python3 -c "$2" "$1" "$3"', point, _UNSERVED, options)
    machine.sh("mkdir /opt/app; echo data > /opt/app/file")
    environment = machine.create()
    assert environment.sh("cat /opt/app/file; test -e /usr/share/dpkg; grep -c ^root: /etc/passwd") == "data\n1\n"
    assert environment.exec("ls", "/opt/refusing").returncode != 0
    _writable(environment, "/opt", "/usr/share", "/etc")


# Mounts a trigger on $1; when that is touched, a tmpfs with a file on top of it (autofs_v5_packet, AUTOFS_IOC_READY).
_AUTOMOUNTER = """
import fcntl, os, struct, subprocess, sys
point, log = sys.argv[1:]
os.setpgid(0, 0)
read_end, write_end = os.pipe()
options = f"fd={write_end},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
subprocess.run(["mount", "-i", "-t", "autofs", "-o", options, "test", point], check=True, pass_fds=[write_end])
trigger = os.open(point, os.O_RDONLY)
os.close(write_end)
print("waiting", flush=True)
while packet := os.read(read_end, 304):
    with open(log, "a") as stream:
        stream.write(f"{point}\\n")
    subprocess.run(["mount", "-t", "tmpfs", "test", point], check=True)
    with open(f"{point}/file", "w") as stream:
        stream.write("on demand\\n")
    fcntl.ioctl(trigger, 0x9360, struct.unpack_from("=I", packet, 8)[0])
"""
_TRIGGERS = ("/opt/auto", "/etc/auto", "/srv", "/auto")


def test_an_automount_is_triggered_by_its_use_alone(machine: Machine) -> None:
    log = machine.root / "mnt" / "log"
    log.touch()
    daemons = []
    try:
        for point in _TRIGGERS:
            machine.sh('mkdir -p "$1"', point)
            command = [*machine.prefix, "python3", "-c", _AUTOMOUNTER, point, "/mnt/log"]
            daemons.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            assert line(daemons[-1]) == "waiting\n"
        environment = machine.create()
        environment.sh('stat "$@"; ls -l / /opt /etc', *_TRIGGERS)
        assert log.read_text() == ""
        assert environment.sh("cat /opt/auto/file /etc/auto/file /srv/file /auto/file") == "on demand\n" * 4
        assert log.read_text().split() == list(_TRIGGERS)
        # The mount was there already; when it goes, it can be called again.
        assert environment.sh("cat /opt/auto/file") == "on demand\n"
        machine.sh("umount /opt/auto")
        assert environment.sh("cat /opt/auto/file") == "on demand\n"
        assert log.read_text().split() == [*_TRIGGERS, "/opt/auto"]
    finally:
        for daemon in daemons:
            daemon.kill()
            finish(daemon)


def test_mounts_that_come_and_go_between_starts(machine: Machine) -> None:
    """Data roots are split and joined again, and no stub shows another file's data."""
    machine.sh("for i in 1 2 3; do mkdir -p /opt/a/$i; head -c 9999 /dev/urandom > /opt/a/$i/data; done")
    machine.sh(
        'mount -o loop "$1" /media; cp -a /opt/a /media; umount /media', machine.image("disk", "ext4", size="64M")
    )
    environment = machine.create()
    steps = (
        "true",
        "mount -t tmpfs test /opt/a/2",
        "echo guest > /opt/a/2/data",
        "umount /opt/a/2",
        "mount -o loop /mnt/disk /opt; head -c 9999 /dev/urandom > /opt/a/1/data",
        "mount -t tmpfs test /opt/a/3; head -c 9999 /dev/urandom > /opt/a/3/data",
        "umount /opt/a/3; umount /opt",
        "mount -o loop /mnt/disk /opt",
        "mount -t tmpfs test /opt",
        "umount /opt; umount /opt",
    )
    for step in steps:
        machine.sh(step)
        listing = "cd /opt; find . -type f ! -name new -exec sha256sum {} + | sort -k2"
        assert environment.sh(listing) == machine.sh(listing), step


def test_a_disk_that_is_exchanged_deep_below_usr(machine: Machine) -> None:
    point = "/usr/share/a/b/c/d"
    machine.sh('mkdir -p "$1"', point)
    for name in ("one", "two"):
        image = machine.image(name, "ext4", size="16M")
        script = 'mount -o loop "$2" "$1"; (echo $3; head -c 9999 /dev/zero) > "$1/data"; umount "$1"'
        machine.sh(script, point, image, name)
    machine.sh('mount -o loop /mnt/one "$1"', point)
    environment = machine.create()
    assert environment.sh(f"head -1 {point}/data; wc -c < {point}/data").split() == ["one", "10003"]
    machine.sh('umount "$1"; mount -o loop /mnt/two "$1"', point)
    assert environment.sh(f"head -1 {point}/data").split() == ["two"]


@pytest.mark.modes("full", more=("single",))
def test_a_mount_among_very_many_directories(machine: Machine) -> None:
    """overlayfs takes 500 layers: not every sibling of a mount can be a data-only lower."""
    machine.sh("""
        for i in $(seq 600); do mkdir -p /opt/many/$i; (echo $i; head -c 6000 /dev/zero) > /opt/many/$i/data; done
        head -c 3000000 /dev/urandom > /opt/many/large
        mkdir /opt/many/300/mount
        mount -t tmpfs test /opt/many/300/mount
    """)
    environment = machine.create()
    listing = "cd /opt; find . -type f -exec sha256sum {} + | sort -k2"
    assert environment.sh(listing) == machine.sh(listing)


@pytest.mark.modes("full", "root", more=("single",))
def test_mounts_that_come_and_go_while_a_session_runs(machine: Machine) -> None:
    machine.sh("mkdir /opt/app /opt/guest /opt/disk /mnt/stick; head -c 9999 /dev/urandom > /opt/app/data")
    image = machine.image("disk", "ext4", size="16M")
    machine.sh('mount -o loop "$1" /opt/disk; head -c 9999 /dev/urandom > /opt/disk/data', image)
    machine.sh("mount -t tmpfs test /opt/guest; echo guest > /opt/guest/file")
    environment = machine.create()
    session = environment.tool.start("exec", "test", "--", "sh", "-c", "echo ready; cat; sha256sum /opt/*/data")
    assert line(session) == "ready\n"
    expected = machine.sh("sha256sum /opt/*/data")
    # In a directory that is the host's own it arrives, in a system directory with the next start.
    machine.sh("mount -t tmpfs test /mnt/stick; echo stick > /mnt/stick/file")
    assert environment.sh("cat /mnt/stick/file") == "stick\n"
    machine.sh("mount -t tmpfs test /opt/app; echo late > /opt/app/file")
    assert environment.sh("ls /opt/app") == "data\n"
    # The host lets go of all; the session keeps what its own root was put together from.
    machine.sh("umount /opt/guest; umount /opt/disk; umount /mnt/stick")
    assert environment.sh("ls /opt/guest /mnt/stick") == "/mnt/stick:\n\n/opt/guest:\nfile\n"
    result = finish(session)
    assert succeeded(result).stdout == expected
    assert environment.sh("ls /opt/app /opt/guest /opt/disk") == "/opt/app:\nfile\n\n/opt/disk:\n\n/opt/guest:\n"
