"""The mounts that root makes for a user: what they show and to whom, that they stay read-only, and that no name which
the user can change leads root elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration import accounts
from integration.machines import Machine
from integration.support import ROOT_RUN, Account, Tool, describe, line, ran, refused, rest, succeeded

from sysenv_ns.kernel import idmap, mountinfo

from . import fuse, remounting

pytestmark = [
    pytest.mark.modes("idmap"),
    pytest.mark.skipif(not ROOT_RUN, reason="only root can make these mounts"),
]

_PLACE = Path("/run/sysenv-ns")
_PROGRAM = Path(remounting.__file__)
_NAMESPACES = ("unshare", "--user", "--mount", "--map-root-user")
_LIMIT = 120  # seconds
_ROUNDS = 30


@pytest.fixture
def program(shared: Path) -> Path:
    """The attacker's program, where all can read it."""
    path = shared / "remounting.py"
    shutil.copy(_PROGRAM, path)
    path.chmod(0o644)
    return path


@pytest.fixture
def mounted(tool: Tool) -> Iterator[Path]:
    """The directory with what root shows to the user."""
    accounts.prepare_mounts(tool.launcher, tool.account)
    yield _PLACE / str(tool.account.uid)
    accounts.prepare_mounts(tool.launcher, tool.account)


def _as(account: Account, *command: str) -> subprocess.CompletedProcess[str]:
    """A command as a user."""
    return ran([*account.setpriv(), *command], limit=_LIMIT, cwd="/")


def _points(pid: str = "self") -> set[str]:
    """All idmapped mounts."""
    return {mount.point for mount in mountinfo.read(pid) if "idmapped" in mount.options}


@pytest.mark.parametrize("ids", [("--map-auto",), ()])
@pytest.mark.parametrize("released", [False, True])
def test_cannot_be_made_writable_nor_lead_elsewhere(
    mounted: Path, tool: Tool, program: Path, ids: tuple[str, ...], released: bool
) -> None:
    """Nor after it has been taken away: a bind of it in a namespace that was made before stays."""
    source = str(mounted / "usr")
    attack = ("/usr/bin/python3", str(program), "/media" if released else source, "/etc/shadow", "/etc", "/root")
    further = _NAMESPACES if released else ()  # as one's own bind can be moved away
    inside = ("sh", "-ec", 'mount --bind "$0" /media; echo ready; read -r go; exec "$@"', source, *further, *attack)
    script = 'exec 9<"$0"; exec "$@"'
    command = [*tool.account.setpriv(), "bash", "-ec", script, source, *_NAMESPACES, *ids, *inside]
    before = Path("/usr/bin").stat()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert line(process) == "ready\n"
        if released:
            accounts.release_mounts(tool.launcher, tool.account)
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.close()
        assert rest(process) == "done\n"
    assert Path("/usr/bin").stat() == before


def test_the_attacks_find_what_is_open(tool: Tool, program: Path) -> None:
    """The test above would fail: a mount of the user's own can be made writable again."""
    script = 'mount -t tmpfs -o ro,nosuid,nodev none /media; exec /usr/bin/python3 "$@"'
    command = ("sh", "-ec", script, "sh", str(program), "/media")
    result = _as(tool.account, *_NAMESPACES, *command)
    assert "level 0, the mount, remount of the file system (done): written\n" in result.stdout, result.stdout
    assert "level 2, bind, mount_setattr 1 (done): flags 0\n" in result.stdout, result.stdout


def test_root_of_an_environment_finds_no_mount(mounted: Path, tool: Tool) -> None:
    succeeded(tool.run("create", *tool.options, "inside"))
    environment = tool.environment("inside")
    assert environment.sh("ls -A /run/host/run/sysenv-ns") == ""
    assert environment.sh(
        f"ls -A {_PLACE} | grep -c {mounted.name} || true; ls -A {mounted} 2>&1 | grep -c usr || true"
    ) == ("0\n0\n")
    tool.end("inside")


def test_what_it_shows_and_to_whom(mounted: Path, tool: Tool, users: dict[str, Account]) -> None:
    assert sorted(os.listdir(mounted)) == ["opt", "usr"]
    status = mounted.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (tool.account.uid, tool.account.gid, 0o700)
    parent = _PLACE.stat()
    assert (parent.st_uid, parent.st_mode & 0o777) == (0, 0o755)
    assert "Permission denied" in _as(users["single"], "ls", str(mounted)).stderr
    for mount in mountinfo.read():
        if mount.point.startswith(f"{mounted}/"):
            assert {"ro", "nosuid", "nodev", "idmapped"} <= {*mount.options}
            assert mount.root == f"/{Path(mount.point).name}"


def test_whatever_umask_root_has(machine: Machine) -> None:
    """The user can enter what root makes without sudo, in a process of the caller's."""
    account, launcher = machine.tool.account, machine.tool.launcher
    machine.sh(f"{launcher} host release --user {account.name}; rm -rf /run/sysenv-ns")
    machine.sh(f"umask 077; {launcher} host prepare --user {account.name}")
    assert machine.sh("stat -c '%a %u' /run/sysenv-ns") == "755 0\n"
    assert succeeded(ran([*machine.tool.prefix, "ls", f"/run/sysenv-ns/{account.uid}"])).stdout == "opt\nusr\n"


def test_private_below_a_shared_mount(machine: Machine) -> None:
    """As systemd has /run: nothing that is mounted in one of these mounts appears in another mount namespace."""
    account = machine.tool.account
    machine.sh("mount -t tmpfs -o mode=755 tmpfs /run; mount --make-shared /run")
    accounts.prepare_mounts(machine.tool.launcher, account, *machine.prefix)
    shown = machine.sh(f"grep ' /run/sysenv-ns/{account.uid}/' /proc/self/mountinfo").splitlines()
    assert shown
    assert [line for line in shown if " shared:" in line] == []


def test_ids_are_those_of_the_user_alone(machine: Machine) -> None:
    """Each id of the host is shown as the one that the user's own range has for it, or as nobody's."""
    account, ids = machine.tool.account, (0, 5, 999, machine.tool.account.uid, 65534, 70000, 4000000)
    for uid in ids:
        machine.sh('touch "/opt/$1"; chown "$1:$1" "/opt/$1"', str(uid))
    id_map = idmap.granted(account.uid, account.gid)
    found = machine.sh(f"cd /run/sysenv-ns/{account.uid}/opt; stat -c '%n %u %g' {' '.join(map(str, ids))}")
    assert found.splitlines() == [f"{n} {id_map.outside(n, n)[0]} {id_map.outside(n, n)[1]}" for n in ids]
    own = {account.uid, *range(id_map.uids[0].outside, id_map.uids[0].outside + 65536), idmap.OVERFLOW_ID}
    assert {id_map.outside(n, n)[0] for n in ids} <= own


def test_no_setuid_program_for_the_host(machine: Machine) -> None:
    machine.sh("cp /usr/bin/id /opt/id; chmod u+s /opt/id; cp /usr/bin/id /usr/bin/own-id; chmod 6755 /usr/bin/own-id")
    account = machine.tool.account
    for path in ("opt/id", "usr/bin/own-id"):
        command = [*machine.tool.prefix, f"/run/sysenv-ns/{account.uid}/{path}", "-u"]
        result = succeeded(ran(command))
        assert result.stdout == f"{account.uid}\n"


def test_device_nodes_lead_nowhere(machine: Machine) -> None:
    """Neither in the mount nor in the overlay above it."""
    machine.sh("mknod -m 666 /opt/zero c 1 5; mknod -m 666 /opt/loop b 7 0; head -c 1 /opt/zero > /dev/null")
    environment = machine.create()
    for place in ("/opt", f"/run/sysenv-ns/{machine.tool.account.uid}/opt"):
        for name in ("zero", "loop"):
            script = f"head -c 1 {place}/{name}"
            command = [*machine.tool.prefix, "sh", "-c", script]
            result = environment.exec("sh", "-c", script) if place == "/opt" else ran(command)
            assert result.returncode != 0, describe(result)
            assert "Permission denied" in result.stderr


def test_what_is_mounted_later_does_not_show(machine: Machine) -> None:
    machine.sh("mkdir /opt/later; mount -t tmpfs tmpfs /opt/later; echo secret > /opt/later/file")
    assert machine.sh(f"ls -A /run/sysenv-ns/{machine.tool.account.uid}/opt/later") == ""


@pytest.mark.modes("sudo")
def test_for_whom_only_sudo_says(tool: Tool, users: dict[str, Account]) -> None:
    """The process that acts as root takes no word of its caller for that."""
    accounts.release_mounts(tool.launcher, tool.account)
    other, before = users["single"].uid, _points()
    python = tool.launcher.parents[1] / ".venv/bin/python"
    script = (
        'sudo -- "$1" -I -B -m sysenv_ns.mapped.root prepare "$2"; echo; cat /proc/self/mountinfo; '
        '"$1" -I -B -m sysenv_ns.mapped.root prepare "$2"; SUDO_UID=0 "$1" -I -B -m sysenv_ns.mapped.root release'
    )
    result = ran([*tool.prefix, "sh", "-c", script, "sh", str(python), str(other)])
    said, table = result.stdout.split("\n", 1)
    assert json.loads(said)["result"] == {p: f"{_PLACE}/{tool.account.uid}{p}" for p in ("/usr", "/opt")}
    points = {line.split()[4] for line in table.splitlines() if ",idmapped " in line} - before
    assert points == {f"{_PLACE}/{tool.account.uid}/{name}" for name in ("usr", "opt")}
    assert table.count("only root can do this") == 2
    accounts.prepare_mounts(tool.launcher, tool.account)


def test_another_user_and_too_few_ids(tool: Tool, users: dict[str, Account], machine: Machine) -> None:
    refused(tool.run("host", "prepare", "--user", "root"), 1, "only root", "another user")
    result = ran([tool.launcher, "host", "prepare", "--user", users["single"].name])
    refused(result, 1, "/etc/subuid grants", users["single"].name)
    name = machine.tool.account.name
    machine.sh(f"sed -i '/^{name}:/s/:[0-9]*$/:1000/' /etc/subuid; echo 'someone:0:65536' >> /etc/subuid")
    command = [*machine.prefix, str(tool.launcher), "host", "prepare", "--user", name]
    refused(ran(command), 1, "too few")


def test_links_in_the_users_directory_lead_nowhere(mounted: Path, tool: Tool) -> None:
    accounts.release_mounts(tool.launcher, tool.account)
    for plant in ('ln -s /home "$1/usr"', 'touch "$1/usr"', 'ln -s /proc/1/root "$1/usr"', 'mkfifo "$1/usr"'):
        accounts.prepare_mounts(tool.launcher, tool.account)
        accounts.release_mounts(tool.launcher, tool.account)
        directory = _PLACE / str(tool.account.uid)
        directory.mkdir(mode=0o700)
        os.chown(directory, tool.account.uid, tool.account.gid)
        before = _points()
        assert _as(tool.account, "sh", "-c", plant, "sh", str(directory)).returncode == 0
        command = [str(tool.launcher), "host", "prepare", "--user", tool.account.name]
        result = ran(command)
        assert result.returncode == 1, describe(result)
        assert _points() == before
        shutil.rmtree(directory)


def test_a_user_who_renames_meanwhile(mounted: Path, tool: Tool) -> None:
    """Whatever name is exchanged at whatever moment: mounts appear in the user's directory or not at all."""
    account, directory = tool.account, mounted
    script = f"""
    cd {directory} || exit 1
    mkdir -p /tmp/{account.name}; ln -sfn /etc link
    while [ ! -e /tmp/{account.name}/end ]; do
        mkdir -p usr other; mv usr away 2>/dev/null; mv -T link usr 2>/dev/null; mv -T usr link 2>/dev/null
        mv other usr 2>/dev/null; rmdir away usr other 2>/dev/null
    done"""
    others = _points() - {str(directory / name) for name in ("usr", "opt")}
    thread = threading.Thread(target=_as, args=(account, "sh", "-c", script), daemon=True)
    thread.start()
    try:
        for _ in range(_ROUNDS):
            command = [str(tool.launcher), "host", "prepare", "--user", account.name]
            ran(command)
            assert {Path(point).parent for point in _points() - others} <= {directory}
    finally:
        stop = Path("/tmp", account.name)
        stop.mkdir(exist_ok=True)
        (stop / "end").touch()
        thread.join(_LIMIT)
        assert not thread.is_alive()
        shutil.rmtree(stop)
        accounts.release_mounts(tool.launcher, account)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs fusermount3")
def test_a_user_who_covers_the_own_directory(machine: Machine, shared: Path) -> None:
    """Everybody may mount FUSE on a directory of theirs, and root cannot enter that: what root has made goes anyway."""
    account, launcher = machine.tool.account, machine.tool.launcher
    place, program = f"/run/sysenv-ns/{account.uid}", shutil.copy(fuse.__file__, shared / "fuse.py")
    Path(program).chmod(0o644)
    accounts.make_fuse(machine.root / "mnt/fuse")
    machine.sh("mount --bind /mnt/fuse /dev/fuse")
    command = [*machine.tool.prefix, "/usr/bin/python3", str(program), "covered", place]
    for verb, left in (("prepare", 2), ("release", 0)):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert line(process) == "ready\n"
                machine.sh(f"{launcher} host {verb} --user {account.name}")
                table = mountinfo.parse(machine.sh("cat /proc/self/mountinfo").encode())
                found = [mount.fstype for mount in table if f"{mount.point}/".startswith(f"{place}/")]
                assert found == ["ext4"] * left
            finally:
                process.kill()


def test_several_at_once(machine: Machine) -> None:
    """In two terminals, or at boot while somebody logs in: each succeeds, one after the other."""
    account, launcher = machine.tool.account, machine.tool.launcher
    command = [*machine.prefix, str(launcher), "host", "prepare", "--user", account.name]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(process.communicate(timeout=_LIMIT)[1], process.returncode) for process in processes] == [(b"", 0)] * 4
    table = mountinfo.parse(machine.sh("cat /proc/self/mountinfo").encode())
    points = [mount.point for mount in table if "idmapped" in mount.options]
    assert sorted(points) == [f"/run/sysenv-ns/{account.uid}/{name}" for name in ("opt", "usr")]
    assert machine.sh("stat --format %a:%U /run/sysenv-ns/.lock") == "600:root\n"


def test_a_place_that_others_can_change_is_refused(machine: Machine) -> None:
    machine.sh(f"umount /run/sysenv-ns/{machine.tool.account.uid}/*; chmod 777 /run/sysenv-ns")
    command = [*machine.prefix, str(machine.tool.launcher), "host", "prepare", "--user", machine.tool.account.name]
    refused(ran(command), 1, "users other than root")


def test_a_disk_whose_name_leads_elsewhere(machine: Machine) -> None:
    """A user who owns a directory above a disk below /opt puts a link in its place."""
    account = machine.tool.account
    disk = machine.image("disk", "ext4")
    machine.sh(
        'mkdir -p /opt/own/disk; mount -o loop "$1" /opt/own/disk; chown -R "$2" /opt/own', disk, str(account.uid)
    )
    machine.sh("mv /opt/own /opt/moved; ln -s /etc /opt/own; mkdir -p /etc/disk")
    accounts.prepare_mounts(machine.tool.launcher, account, *machine.prefix)
    shown = json.loads(succeeded(machine.tool.run("host", "status", "--json")).stdout)["mounts"]
    assert "/opt/own/disk" not in shown
    assert machine.sh(f"ls /run/sysenv-ns/{account.uid}").split() == ["opt", "opt%2Fmoved%2Fdisk", "usr"]
