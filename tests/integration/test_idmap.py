"""The driver idmap: what root shows, environments above it, and the ways from and to other drivers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sysenv_ns.kernel import idmap, mountinfo

from . import accounts, terminals
from .machines import Machine
from .support import BASE_LIMIT, START_LIMIT, Environment, Tool, describe, end, refused, sleeper, succeeded

pytestmark = pytest.mark.modes("idmap")

_LOWER = "/run/sysenv-ns/{uid}"
# Each at the place where, with other drivers, one overlay would do it.
_CHANGES = """
ln /usr/bin/sort /usr/bin/sort.old; chmod 700 /usr/bin/wc; chown 33:33 /usr/bin/sum; echo more >> /usr/bin/tee
rm -r /usr/share/doc; mkdir /usr/share/doc; mv /usr/bin/cut /usr/bin/cut.new; touch /usr/local/new /opt/new
"""
_CHECKS = """
stat -c '%h %a %u:%g' /usr/bin/sort.old /usr/bin/wc /usr/bin/sum; tail -c 5 /usr/bin/tee; ls -A /usr/share/doc
ls /usr/bin/cut /usr/bin/cut.new 2>&1 || true; ls /usr/local/new /opt/new; stat -c '%A %u' /usr/bin/su
"""
_CHANGED = """\
2 755 0:0
1 700 0:0
1 755 33:33
more
ls: cannot access '/usr/bin/cut': No such file or directory
/usr/bin/cut.new
/opt/new
/usr/local/new
-rwsr-xr-x 0
"""


def _overlays(environment: Environment) -> set[str]:
    """The mount points of an environment's overlays."""
    table = mountinfo.parse(environment.sh("cat /proc/self/mountinfo").encode())
    return {mount.point for mount in table if mount.source.startswith("sysenv-ns:")}


def _mounts(machine: Machine) -> dict[str, str]:
    """What root shows to the user there."""
    found = json.loads(succeeded(machine.tool.run("host", "status", "--json")).stdout)["mounts"]
    assert isinstance(found, dict)
    return found


def test_changes_of_programs_of_the_host(environment: Environment) -> None:
    environment.sh(_CHANGES)
    assert environment.sh(_CHECKS) == _CHANGED
    uid = environment.tool.account.uid
    assert _overlays(environment) == {"/", "/usr", "/opt"}
    assert environment.sh(f"ls -A /run/sysenv-ns | grep {uid} || true") == ""
    shown = succeeded(environment.tool.run("diff", environment.name)).stdout
    assert "/usr/bin/sort.old" in shown
    assert Path(_LOWER.format(uid=uid)).stat().st_mode & 0o777 == 0o700


def test_no_mirror_of_what_is_shown(environment: Environment) -> None:
    trees = (environment.tool.store / "base").glob("idmap-*/*/tree")
    files = [path for tree in trees for name in ("usr", "opt") for path in (tree / name).rglob("*") if path.is_file()]
    assert [path for path in files if "own-" not in str(path)] == []


def test_every_file_system_has_a_mount(new_machine: Machine) -> None:
    """A disk below a directory that is shown, and a directory that is a disk of its own."""
    machine = new_machine
    local, opt = machine.image("local", "ext4"), machine.image("opt", "ext4")
    machine.sh('mount -o loop "$1" /usr/local; mount -o loop "$2" /opt; mkdir -p /usr/local/bin', local, opt)
    machine.sh("echo disk > /usr/local/file; echo disk > /opt/file; chown 7:7 /opt/file")
    environment = machine.tool.environment("test")
    result = machine.tool.run("create", *machine.tool.options, "test")
    if result.returncode == 0:  # the mounts of /usr and /opt were made before the disks were
        result = environment.exec("true")
        succeeded(machine.tool.run("remove", "--purge", "test"))
    refused(result, result.returncode, "host prepare")
    machine.create()
    assert _mounts(machine).keys() == {"/usr", "/usr/local", "/opt"}
    environment.sh("ln /usr/local/file /usr/local/linked; echo more >> /opt/file; mv /usr/local/file /usr/bin/file")
    assert environment.sh("cat /usr/local/linked /opt/file /usr/bin/file; stat -c %u:%g /opt/file") == (
        "disk\ndisk\nmore\ndisk\n7:7\n"
    )
    assert {"/usr", "/usr/local", "/opt"} <= _overlays(environment)
    assert machine.sh("cat /opt/file; ls /usr/local") == "disk\nbin\nfile\nlost+found\n"


def test_what_cannot_be_idmapped_stays_mirrored(new_machine: Machine) -> None:
    """An overlay (an extension image) cannot: /opt as a whole is mirrored as by other drivers, /usr is shown."""
    machine = new_machine
    machine.sh("mkdir -p /opt/inner /mnt/upper /mnt/work; echo host > /opt/inner/file")
    lower = "lowerdir=/opt/inner,upperdir=/mnt/upper,workdir=/mnt/work"
    machine.sh('mount -t tmpfs tmpfs /mnt; mkdir /mnt/upper /mnt/work; mount -t overlay overlay -o "$1" /opt', lower)
    machine.sh("echo changed >> /opt/file")
    settings = machine.tool.account.home / ".config/sysenv-ns/config.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('overlay = ["/opt"]\n')
    try:
        environment = machine.create()
        assert "/usr" in _mounts(machine)
        environment.sh("echo more >> /opt/file; touch /usr/new; mkdir /opt/directory")
        assert environment.sh("cat /opt/file; ls /usr/new; ls -d /opt/directory") == (
            "host\nchanged\nmore\n/usr/new\n/opt/directory\n"
        )
        assert machine.sh("cat /opt/file; ls /opt") == "host\nchanged\nfile\n"
    finally:
        settings.unlink()


def test_release(environment: Environment) -> None:
    """A running environment keeps what it has; the next start says what is missing."""
    tool = environment.tool
    session = sleeper(environment)
    try:
        accounts.release_mounts(tool.launcher, tool.account)
        assert not Path(_LOWER.format(uid=tool.account.uid)).exists()
        assert environment.sh("ln /usr/bin/sort /usr/bin/sort.old; sort.old /dev/null; echo there") == "there\n"
    finally:
        end(session)
        refused(environment.exec("true"), 125, "idmap", "host prepare")
        for verb in (("refresh",), ("rebase", environment.name)):
            refused(tool.run(*verb), 1, "needs root once", "host prepare")
        accounts.prepare_mounts(tool.launcher, tool.account)
    environment.sh("sort.old /dev/null")


def test_release_of_what_others_have_unmounted(machine: Machine) -> None:
    """Nothing is left that `remove --all` would tell of again and again."""
    account, launcher = machine.tool.account, machine.tool.launcher
    machine.sh(f"umount /run/sysenv-ns/{account.uid}/usr; {launcher} host release --user {account.name}")
    accounts.prepare_mounts(launcher, account, *machine.prefix)
    machine.sh(f"umount /run/sysenv-ns/{account.uid}/*; {launcher} host release --user {account.name}")
    assert machine.sh("ls -A /run/sysenv-ns") == ".lock\n"
    assert "host release" not in succeeded(machine.tool.run("remove", "--all", "--yes")).stderr


def test_another_range_of_ids(new_machine: Machine) -> None:
    """Mounts that were made for ids which the user has no longer are not used."""
    machine = new_machine
    environment = machine.create()
    account = machine.tool.account
    name, first = account.name, idmap.granted(account.uid, account.gid).uids[0].outside
    machine.sh(f"sed -i '/^{name}:/s/:.*/:3000000:65536/' /etc/subuid /etc/subgid")
    result = machine.tool.run("create", *machine.tool.options, "other")
    refused(result, 1, "idmap" if "idmap" in result.stderr else "mount of /usr")
    accounts.prepare_mounts(machine.tool.launcher, machine.tool.account, *machine.prefix)
    succeeded(machine.tool.run("create", *machine.tool.options, "other"))
    assert machine.tool.environment("other").sh("stat -c %u /usr/bin/su") == "0\n"
    refused(environment.exec("true"), 125, "other ids than /etc/subuid", f"from {first} on")
    refused(environment.tool.run("diff", "test"), 1, "refused the id map", f"--add-subuids {first}-")


def test_from_driver_to_driver(tool: Tool) -> None:
    """A clone has all changes; also what hides a directory that the driver idmap mounts."""
    environment = tool.environment("from")
    succeeded(tool.run("create", "--driver", "stub", "from", limit=BASE_LIMIT))
    environment.sh(_CHANGES)
    environment.sh("rm -r /usr/games; rm -r /opt; mkdir /opt; touch /opt/new")
    succeeded(tool.run("snapshot", environment.name, "state"))
    succeeded(tool.run("clone", "--driver", "idmap", environment.name, "to-idmap", limit=BASE_LIMIT))
    succeeded(tool.run("clone", "--driver", "stub", "to-idmap", "back"))
    for name in (environment.name, "to-idmap", "back"):
        found = tool.environment(name)
        assert found.sh(_CHECKS) == _CHANGED
        assert found.sh("ls -d /usr/games 2>/dev/null || ls -A /opt") == "new\n"
    inside = tool.environment("to-idmap")
    inside.sh("touch /opt/more /usr/bin/more-programs; rm /usr/bin/wc")
    succeeded(tool.run("rollback", "to-idmap", "state"))
    assert inside.sh("ls /opt; ls /usr/bin/more-programs /usr/bin/wc 2>/dev/null || true") == "new\n/usr/bin/wc\n"
    refused(tool.run("clone", "--driver", "fuse", environment.name, "x"), 1, "fuse", "export")
    for name in ("from", "to-idmap", "back"):
        tool.end(name)


def test_states_and_throwaway_ones(environment: Environment) -> None:
    tool, name = environment.tool, environment.name
    environment.sh("chmod 2775 /usr; touch /usr/bin/first")
    succeeded(tool.run("snapshot", name, "first"))
    environment.sh("touch /usr/bin/second; rm /usr/bin/wc; touch /usr/bin/first")
    assert environment.sh("stat -c %a /usr") == "2775\n"
    for options in ((), ("--on-disk",)):
        command = ("sh", "-ec", "rm /usr/bin/first; touch /opt/third; ls /usr/bin/second; ls /usr/bin/wc || true")
        result = succeeded(tool.run("exec", "--ephemeral", *options, name, "--", *command))
        assert result.stdout == "/usr/bin/second\n", describe(result)
    assert environment.sh("ls /usr/bin/first; ls /opt/third || true") == "/usr/bin/first\n"
    succeeded(tool.run("snapshot", name, "second"))
    environment.sh("true")  # which is no change
    assert json.loads(succeeded(tool.run("rollback", name, "first", "--json")).stdout)["kept"] is None
    succeeded(tool.run("rollback", name, "second"))
    environment.sh("chmod 755 /usr")  # which is one
    assert json.loads(succeeded(tool.run("rollback", name, "second", "--json")).stdout)["kept"] == "before-rollback"
    assert environment.sh("stat -c %a /usr") == "2775\n"
    succeeded(tool.run("rollback", name, "first"))
    assert environment.sh("ls /usr/bin/second || ls /usr/bin/wc /usr/bin/first") == "/usr/bin/first\n/usr/bin/wc\n"


def test_archive(environment: Environment) -> None:
    """An environment of this driver is exported, and imported into another one."""
    tool = environment.tool
    environment.sh(_CHANGES)
    file = tool.account.home / "idmap.tar.zst"
    succeeded(tool.run("export", environment.name, str(file), limit=BASE_LIMIT))
    succeeded(tool.run("import", "--driver", "stub", str(file), "imported", limit=BASE_LIMIT))
    assert tool.environment("imported").sh(_CHECKS) == _CHANGED
    tool.end("imported")
    succeeded(tool.run("import", *tool.options, str(file), "imported", limit=BASE_LIMIT))
    assert tool.environment("imported").sh(_CHECKS) == _CHANGED
    tool.end("imported")
    file.unlink()


def test_at_each_boot(machine: Machine) -> None:
    """The unit runs what makes the mounts; it goes with them."""
    name, uid = machine.tool.account.name, machine.tool.account.uid
    launcher, unit = machine.tool.launcher, f"/etc/systemd/system/sysenv-ns-{uid}.service"
    prepare = f"{launcher} host prepare --at-boot --user {name}"
    assert "not started by systemd" in machine.sh(f"{prepare} 2>&1 || true")
    machine.sh("mkdir -p /run/systemd/system /etc/systemd/system")
    machine.sh(f"cp /etc/subuid /etc/subuid.all; sed -i '/^{name}:/d' /etc/subuid")
    assert "no subordinate ids" in machine.sh(f"{prepare} 2>&1 || true")
    assert machine.sh("find /etc/systemd/system -name 'sysenv-ns*'") == ""
    machine.sh(f"mv /etc/subuid.all /etc/subuid; {prepare}")
    assert "at each boot" in machine.sh(f"{launcher} host status --user {name}")
    link = f"/etc/systemd/system/multi-user.target.wants/sysenv-ns-{uid}.service"
    assert machine.sh(f"readlink {link}") == f"{unit}\n"
    assert f"Before=user@{uid}.service\n" in machine.sh(f"cat {unit}")  # whose services are of these environments
    command = machine.sh(f"sed -n s/^ExecStart=//p {unit}")
    machine.sh(f"umount /run/sysenv-ns/{uid}/*; rm -r /run/sysenv-ns; env -i {command}")
    assert _mounts(machine).keys() == {"/usr", "/opt"}
    machine.sh(f"chown {uid} {launcher.parents[1]}/sysenv_ns/mapped/root.py")
    try:
        assert "users other than root can change" in machine.sh(f"{prepare} 2>&1 || true")
    finally:
        machine.sh(f"chown 0 {launcher.parents[1]}/sysenv_ns/mapped/root.py")
    machine.sh(f"{launcher} host release --user {name}")
    assert machine.sh(f"ls -d {link} {unit} 2>/dev/null || ls -A /run/sysenv-ns") == ".lock\n"
    assert _mounts(machine) == {}


@pytest.mark.modes("sudo")
def test_one_question_on_a_terminal(tool: Tool) -> None:
    """Where nothing is prepared it says what will be shown, asks once, and uses sudo; without a terminal it fails.

    For an environment that exists it asks again after each boot.
    """
    environment = tool.environment("asked")
    accounts.release_mounts(tool.launcher, tool.account)
    refused(tool.run("exec", "--driver", "idmap", "asked", "--", "true"), 125, "needs root once", "host prepare")
    arguments = ("exec", "--driver", "idmap", "asked", "--", "sh", "-c", "grep -c sysenv-ns: /proc/self/mountinfo")
    program = terminals.spawn(environment, str(tool.launcher), *arguments)
    program.expect("only root can use now.*Continue")
    program.sendline("n")
    program.expect("needs root once")
    terminals.close(program)
    assert program.exitstatus == 125
    program = terminals.spawn(environment, str(tool.launcher), *arguments)
    program.expect("Continue")
    program.sendline("y")
    program.expect(r"(\n|\x1b\[K)3\r\n", timeout=START_LIMIT)  # a base that takes longer has shown its progress
    terminals.close(program)
    assert program.exitstatus == 0
    accounts.release_mounts(tool.launcher, tool.account)
    for key, status in (("n\n", 125), ("\x03", 130), ("y\n", 0)):
        program = terminals.spawn(environment, str(tool.launcher), "exec", "asked", "--", "true")
        program.expect("Continue")
        program.send(key)
        terminals.close(program)
        assert program.exitstatus == status
    tool.end("asked")
    accounts.prepare_mounts(tool.launcher, tool.account)


def test_what_an_overlay_cannot_do_is_done_below_its_mounts_too(environment: Environment) -> None:
    """As in / itself (moves.py): git, node and pip rename directories, and a file with two names has one inode."""
    environment.sh('/usr/bin/python3 -c \'import os; os.rename("/usr/share/perl5", "/usr/share/moved")\'')
    environment.sh("test -e /usr/share/moved/Debconf && ! test -e /usr/share/perl5")
    environment.sh("mkdir /opt/new; mv /opt/new /opt/newer; ln /usr/bin/tsort /usr/share/again")
    first, second = environment.sh("stat -c %i /usr/bin/tsort /usr/share/again").split()
    assert first == second
