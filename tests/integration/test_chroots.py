"""Other roots inside: what debootstrap and its like make has the host's device nodes for who is in it."""

from __future__ import annotations

import pytest

from .machines import Machine
from .support import APT_LIMIT, Environment

pytestmark = pytest.mark.modes("full", "single")

# A root of a few programs, as debootstrap makes its device nodes.
_ROOT = """
mkdir -p /opt/root/bin /opt/root/dev
for program in sh sleep stat wc head; do
    cp "$(command -v $program)" /opt/root/bin
    ldd "/opt/root/bin/$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "/opt/root${library%/*}"
        cp "$library" "/opt/root$library"
    done
done
cd /opt/root/dev
mknod -m 666 null c 1 3
mknod -m 666 zero c 1 5
mknod -m 666 full c 1 7
mknod -m 666 random c 1 8
mknod -m 666 urandom c 1 9
mknod -m 666 tty c 5 0
cd /opt
"""


def test_a_root_has_the_hosts_device_nodes_for_who_is_in_it(environment: Environment) -> None:
    script = f"""{_ROOT}
        chroot root /bin/sh -c 'echo x > /dev/null; wc -c < /dev/null; head -c 5 /dev/zero | wc -c; stat -c %F /dev/*'
        chroot root /bin/sh -c 'echo x > /dev/full' 2>&1 || echo full
        stat -c %F:%s root/dev/*
        ! grep /opt/root/ /proc/mounts
        flock root chroot root /bin/sh -c 'echo x > /dev/null'
    """
    said = environment.sh(script).splitlines()
    assert said[:8] == ["0", "5", *["character special file"] * 6]
    assert said[9:] == ["full", *["regular empty file:0"] * 6]


def test_nobody_outside_meets_them(environment: Environment) -> None:
    """Not even at the moment at which the last one has left."""
    script = f"""{_ROOT}
        for way in 'rm -r root' 'rm root/dev/null' 'mv root/dev/null x' 'mv root other; rm -r other' 'rm -r root'; do
            cp -a root again
            chroot root /bin/sh -c :
            eval "$way"
            rm -rf root
            mv again root
        done
    """
    environment.sh(script)


def test_a_copy_and_an_archive_of_a_root(environment: Environment) -> None:
    script = f"""{_ROOT}
        chroot root /bin/sh -c 'echo x > /dev/null'
        cp -a root copy
        mkdir unpacked
        tar -C root -c . | tar -C unpacked -x
        for root in root copy unpacked; do chroot "$root" /bin/sh -c 'echo x > /dev/null; wc -c < /dev/null'; done
        rm -rf root copy unpacked
    """
    assert environment.sh(script).split() == ["0"] * 3


def test_what_else_lives_in_a_root_keeps_its_nodes(environment: Environment) -> None:
    """A daemon that a command leaves, or somebody who comes when another one goes."""
    script = f"""{_ROOT}
        chroot root /bin/sh -c 'sleep 1 < /dev/null > /dev/null 2>&1 &'
        stat -c %F root/dev/null
        chroot root /bin/sh -c :
        stat -c %F root/dev/null
        while [ -c root/dev/null ]; do sleep 0.1; done
        for number in 1 2 3 4 5 6 7 8; do
            chroot root /bin/sh -c 'sleep 0.0$1; echo x > /dev/null' sh "$number" &
        done
        wait
        stat -c %F:%s root/dev/null
    """
    nodes = ["character special file"] * 2
    assert environment.sh(script).splitlines() == [*nodes, "regular empty file:0"]


def test_a_command_in_a_root_is_as_without(environment: Environment) -> None:
    """Its status, what stops and ends it, and what its signals do to it."""
    script = """
import os, signal, subprocess
def start(script):
    return subprocess.Popen(["chroot", "/opt/root", "/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True)
command = start("echo $$; kill -STOP $$; echo after; exit 7")
assert int(command.stdout.readline()) == command.pid
assert os.waitid(os.P_PID, command.pid, os.WSTOPPED).si_status == signal.SIGSTOP
command.send_signal(signal.SIGCONT)
assert (command.stdout.read(), command.wait()) == ("after\\n", 7)
command = start("trap 'echo told; exit 3' TERM; echo; while :; do :; done")
command.stdout.readline()
command.terminate()
assert (command.stdout.read(), command.wait()) == ("told\\n", 3)
command = start("echo; while :; do :; done")
command.stdout.readline()
command.kill()
assert command.wait() == -signal.SIGKILL
os.unlink("/opt/root/dev/null")
"""
    environment.sh(f'{_ROOT} /usr/bin/python3 -c "$1"', script)


def test_a_root_without_device_nodes(environment: Environment) -> None:
    """As mmdebstrap leaves it; what daemons lock themselves up in is left alone."""
    script = f"""{_ROOT}
        rm root/dev/*
        chroot root /bin/sh -c 'echo x > /dev/null; wc -c < /dev/null; echo /dev/*'
        mkdir -p empty/dev
        /usr/bin/python3 -c 'import os; os.chroot("empty"); print(os.listdir("/dev"))'
        ls -A root/dev empty/dev
    """
    nodes = " ".join(f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero"))
    assert environment.sh(script).splitlines() == ["0", nodes, "[]", "empty/dev:", "", "root/dev:"]


def test_nodes_that_somebody_has_bound_stay(environment: Environment) -> None:
    """mmdebstrap and schroot bind their own."""
    script = f"""{_ROOT}
        mount --bind /dev/null root/dev/null
        chroot root /bin/sh -c 'echo x > /dev/null'
        stat -c %F root/dev/null root/dev/zero
        umount root/dev/null
        stat -c %F:%s root/dev/null
    """
    assert environment.sh(script).splitlines() == [
        "character special file",
        "regular empty file",
        "regular empty file:0",
    ]


def test_a_root_can_be_furnished(environment: Environment) -> None:
    """proc and sysfs as pbuilder and mock mount them, and /sys as schroot binds it and takes it away."""
    script = """
        mkdir -p /opt/root/proc /opt/root/sys /opt/root/dev /opt/root/own
        cd /opt/root
        mount -t proc proc proc
        cat proc/self/comm
        mount -t sysfs -o ro,nosuid sysfs sys
        cmp sys/kernel/uevent_seqnum /sys/kernel/uevent_seqnum
        grep -o ' /opt/root/sys sysfs ro,nosuid,' /proc/mounts
        umount proc sys
        grep /opt/root/ /proc/mounts || echo none
        mount --bind /sys sys
        cmp sys/kernel/uevent_seqnum /sys/kernel/uevent_seqnum
        grep -o ' /opt/root/sys/[^ ]*' /proc/mounts | tac | while read -r point; do umount "$point"; done
        umount sys
        mount --bind /dev dev
        if mountpoint -q dev/shm; then touch /dev/shm/test-file; umount dev/shm; ls dev/shm; rm /dev/shm/test-file; fi
        umount dev/pts || echo pts
        umount dev
        mount -t tmpfs tmpfs own
        mkdir own/below
        mount -t tmpfs tmpfs own/below
        umount own 2> /dev/null || echo busy
        umount own/below own
        umount own 2> /dev/null || echo nothing
        grep /opt/root/ /proc/mounts || echo none
    """
    lines = ["cat", " /opt/root/sys sysfs ro,nosuid,", "none", "busy", "nothing", "none"]
    assert environment.sh(script).splitlines() == lines


def test_terminals_for_somebody_by_number(environment: Environment) -> None:
    """As pbuilder and mmdebstrap mount them: where nobody else exists they are root's."""
    script = """
        mkdir -p /opt/pts
        mount -t devpts devpts /opt/pts -o noexec,nosuid,gid=5,mode=620,ptmxmode=666
        grep -o ' /opt/pts devpts rw,nosuid,noexec,' /proc/mounts
        /usr/bin/python3 -c 'if True:
            import os
            controller = os.open("/opt/pts/ptmx", os.O_RDWR)
            found = os.stat("/opt/pts/0")
            print(oct(found.st_mode), found.st_gid, oct(os.stat("/opt/pts/ptmx").st_mode))
        '
        mount -t devpts devpts /opt/pts -o nonsense 2> /dev/null || echo refused
        umount /opt/pts
    """
    group = 5 if environment.tool.mode == "full" else 0
    lines = [" /opt/pts devpts rw,nosuid,noexec,", f"0o20620 {group} 0o20666", "refused"]
    assert environment.sh(script).splitlines() == lines


def test_who_is_in_a_root_furnishes_it(environment: Environment) -> None:
    """As the second stage of debootstrap does; mounts have other paths there."""
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs("/opt/root/sys")
if not (child := os.fork()):
    os.chroot("/opt/root")
    assert libc.mount(b"sysfs", b"/sys", b"sysfs", 0, None) == 0
    assert os.path.isdir("/sys/kernel")
    assert libc.umount2(b"/sys/kernel", 0) == -1 and ctypes.get_errno() == 22
    assert libc.umount2(b"/sys", 0) == 0, ctypes.get_errno()
    assert libc.umount2(b"/sys", 0) == -1 and ctypes.get_errno() == 22
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert not any("/opt/root" in line for line in open("/proc/self/mounts"))
"""
    environment.sh('/usr/bin/python3 -c "$1"', script)


def test_what_has_mounts_below_is_bound_and_taken_away_as_one(machine: Machine) -> None:
    """/dev/shm and what is mounted there, as /run of a machine where somebody is logged in; the session's own stays."""
    machine.sh("mount -t tmpfs tmpfs /dev/shm; mkdir /dev/shm/one; mount -t tmpfs tmpfs /dev/shm/one")
    machine.sh("mkdir /dev/shm/one/two; mount -t tmpfs tmpfs /dev/shm/one/two; touch /dev/shm/one/two/x")
    script = """
        mkdir -p /opt/root/shm
        cd /opt/root
        mount --bind /dev/shm shm
        ls shm/one/two
        umount shm
        mount --bind /dev/shm/one shm
        ls shm/two
        umount shm
        mount --rbind /dev/shm shm
        umount -R shm
        grep -o ' /opt/[^ ]*' /proc/mounts || echo none
        umount /dev/shm/one/two 2> /dev/null || echo refused
        umount shm 2> /dev/null || echo nothing
        ls shm /dev/shm/one/two
    """
    expected = ["x", "x", "none", "refused", "nothing", "/dev/shm/one/two:", "x", "shm:"]
    assert machine.create().sh(script).split() == expected


def test_what_the_session_has_mounted_stays(environment: Environment) -> None:
    """An order to take it away fails as before; it is not told to be gone."""
    script = """
        for point in $(awk '$2 ~ "^/(sys|dev)/" { print $2 }' /proc/mounts) /sys /usr; do
            if umount "$point" 2> /dev/null; then echo "$point is gone"; fi
        done
        test -e /sys/kernel && test -c /dev/null
    """
    assert environment.sh(script) == ""


def test_what_the_host_has_mounted_twice_is_not_said_to_be_gone(machine: Machine) -> None:
    """A script that deletes what is left after an umount(8) would delete the host's files."""
    machine.sh("mkdir -p /srv/one/below /srv/two; touch /srv/one/file; mount -t tmpfs tmpfs /srv/one/below")
    machine.sh("touch /srv/one/below/file; mount --rbind /srv/one /srv/two")
    script = 'for point in /srv/two/below /srv/two; do umount "$point" 2>&1; done; ls /srv/two /srv/two/below'
    assert machine.create().exec("sh", "-c", script).stdout.splitlines() == [
        *("umount: /srv/two/below: not mounted.", "umount: /srv/two: target is busy."),
        *("/srv/two:", "below", "file", "", "/srv/two/below:", "file"),
    ]


def test_paths_are_the_callers(environment: Environment) -> None:
    """Those of its own descriptors too."""
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.makedirs("/opt/point", exist_ok=True)
assert libc.mount(b"tmpfs", b"/opt/point", b"tmpfs", 0, None) == 0
os.dup2(os.open("/opt/point", os.O_PATH), 30)
assert libc.umount2(b"/proc/self/fd/31", 0) == -1 and ctypes.get_errno() == 2
assert libc.mount(b"/sys", b"/proc/self/fd/31", None, 4096, None) == -1 and ctypes.get_errno() in (2, 22)
assert libc.umount2(b"/proc/self/fd/30", 2) == 0
assert not any("/opt/point" in line for line in open("/proc/self/mounts"))
"""
    environment.sh('/usr/bin/python3 -c "$1"', script)


def test_who_has_processes_of_its_own_has_a_proc_of_its_own(environment: Environment) -> None:
    script = "unshare --pid --fork --mount-proc sh -c 'echo $$; ls /proc | grep -c \"^[0-9]\"'"
    assert environment.sh(script).split()[0] == "1"


@pytest.mark.matrix
def test_mmdebstrap(environment: Environment) -> None:
    environment.apt("install", "mmdebstrap")
    script = """
        mmdebstrap --variant=minbase bookworm /srv/root http://deb.debian.org/debian 2> /dev/null
        chroot /srv/root sh -c 'echo x > /dev/null; wc -c < /dev/null; dpkg --audit; apt-get -q check > /dev/null'
        rm -r --one-file-system /srv/root
    """
    assert environment.sh(script, limit=APT_LIMIT) == "0\n"


@pytest.mark.matrix
def test_debootstrap(environment: Environment) -> None:
    script = """
        debootstrap --variant=minbase bookworm /srv/root http://deb.debian.org/debian > /dev/null
        chroot /srv/root sh -c 'echo x > /dev/null; wc -c < /dev/null; dpkg --audit'
        rm -r --one-file-system /srv/root
        debootstrap --variant=minbase --foreign bookworm /srv/root http://deb.debian.org/debian > /dev/null
        chroot /srv/root /debootstrap/debootstrap --second-stage > /dev/null
        chroot /srv/root apt-get -q check > /dev/null
        rm -r --one-file-system /srv/root
    """
    assert environment.sh(script, limit=APT_LIMIT) == "0\n"


@pytest.mark.modes("full")
def test_nobody_keeps_root_waiting_by_a_lock(environment: Environment) -> None:
    """flock(2) is for whoever can read a directory: another user inside, and on the host where it is shared."""
    script = f"""{_ROOT}
        setpriv --reuid=daemon --regid=daemon --clear-groups flock --no-fork root/dev sleep 1000 &
        while flock --nonblock root/dev true; do sleep 0.1; done
        timeout 30 chroot root /bin/sh -c 'echo in'
        kill $!
    """
    assert environment.sh(script) == "in\n"
