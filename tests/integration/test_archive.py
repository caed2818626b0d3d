"""export and import: trees come back exactly for other users, id maps and drivers; nothing half-made, nothing wrong."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from . import accounts, terminals
from .archives import Tree, export, imported, other, trees
from .machines import Machine
from .support import Account, Environment, end, finish, refused, sleeper, succeeded, wait_for

_CHANGES = Path(__file__).parents[1] / "unit" / "changes.py"
_CHANGE = """
import subprocess, sys
script = 'rm -rf "$2"; mv -T "$1" "$2"'
Path.rename = lambda path, target: subprocess.run(["sh", "-ec", script, "sh", path, target], check=True)
Changes(Path("/srv"), int(sys.argv[1]), True).make(80)
"""
_SPECIAL = r"""
import os, socket
os.makedirs(b"/opt/\xff\n=%/deep")
os.chdir(b"/opt/\xff\n=%")
open(b"new\nline", "wb").write(b"1\n")
open("sparse", "wb").truncate(5 << 20)
with open("sparse", "r+b") as stream:
    stream.seek(3 << 20); stream.write(b"x" * 9999)
os.link(b"new\nline", b"\xfe"); os.symlink(b"/etc/\xfd\n", "link"); os.symlink("/", "deep/root")
os.symlink("nowhere", "sym"); os.link("sym", "sym2", follow_symlinks=False)
os.mkfifo("pipe"); os.mkfifo("n" * 255); socket.socket(socket.AF_UNIX).bind("socket")
os.setxattr("sparse", b"user.a=b%\n", b"\0\xff\n"); os.setxattr("deep", "user.empty", b"")
os.setxattr("sparse", "user.long", b"9 hdrcharset=x\n" * 99)
open("run", "wb").write(b""); os.chmod("run", 0o6755)
os.utime("run", ns=(5, 1)); os.utime("sym", ns=(0, -1_500_000_001), follow_symlinks=False)
os.chmod("deep", 0o1700)
"""
_OWNED = """
chown 33:65534 /opt/*/run /opt/*/deep; chmod 6755 /opt/*/run; chown -h 7:8 /opt/*/sym; touch -d @1.000000002 /opt/*/run
"""
# An access control list (acl(5)) with names beside the owner's, and a file that may open raw sockets (capabilities(7)).
_RIGHTS = """
import os, struct
entries = [(1, 7, -1), (2, 4, 33), (4, 5, -1), (8, 7, 8), (16, 7, -1), (32, 5, -1)]
value = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
os.mkdir("/opt/acl")
for name in ("access", "default"):
    os.setxattr("/opt/acl", f"system.posix_acl_{name}", value)
os.close(os.open("/opt/true", os.O_CREAT))
os.setxattr("/opt/true", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
"""
_SHOW_RIGHTS = """
import os
for path in ("/opt/acl", "/opt/true"):
    print([(name, os.getxattr(path, name).hex()) for name in sorted(os.listxattr(path)) if "." in name])
"""
_REPLACED = """
rm -r /usr/share/doc/apt /etc/apt; mkdir /etc/apt; echo 1 > /etc/apt/new; rm /usr/bin/apt-key 2>/dev/null || :
chmod 700 /usr/bin/mount; rm /usr/share/common-licenses/GPL-3; mv /usr/share/doc/adduser /usr/share/moved
"""


def _random(environment: Environment, seed: int) -> None:
    environment.sh('python3 -c "$1" $2', f"{_CHANGES.read_text()}\n{_CHANGE}", str(seed))


def _of_root(found: list[Tree]) -> list[Tree]:
    return [{n: e if e == "whiteout" else [e[0], (0, 0), *e[2:]] for n, e in tree.items()} for tree in found]


def _but(found: list[Tree], *paths: str) -> list[Tree]:
    """Without these paths."""
    left_out = {os.fsencode(path) for path in paths}
    return [{name: entry for name, entry in tree.items() if name not in left_out} for tree in found]


@pytest.fixture
def stores(machine: Machine) -> Iterator[None]:
    """Deletes those of the other users."""
    yield
    for path in machine.tool.store.parent.glob(f"{machine.tool.store.name}-*"):
        subprocess.run(["rm", "-rf", path], check=True)


def _filled(machine: Machine) -> Environment:
    """An environment with two snapshots and all that can be in one."""
    environment = machine.create()
    environment.sh('python3 -c "$1"', _SPECIAL)
    _random(environment, 1)
    succeeded(machine.tool.run("snapshot", "test", "one"))
    environment.sh(_REPLACED)
    if machine.tool.mode == "full":
        environment.sh(_OWNED)
        environment.sh('python3 -c "$1"', _RIGHTS)
    _random(environment, 2)
    succeeded(machine.tool.run("snapshot", "test", "two"))
    _random(environment, 3)
    return environment


@pytest.mark.modes("full", "single")
@pytest.mark.usefixtures("stores")
def test_exact_for_other_users_maps_and_drivers(machine: Machine, users: dict[str, Account], file: Path) -> None:
    """Everything of all layers, there and back again."""
    mode = machine.tool.mode
    environment = _filled(machine)
    expected = trees(environment)
    assert any(e != "whiteout" and e[5] for tree in expected for e in tree.values())  # opaque directories
    export(environment, file)
    copy = imported(other(machine, machine.tool.account, "copy", "--driver", "copy", "--id-map", mode), file, "test")
    assert trees(copy) == expected
    if mode == "full":
        show = ("python3", "-c", _SHOW_RIGHTS)
        shown = succeeded(environment.exec(*show)).stdout
        assert "security.capability" in shown
        assert succeeded(copy.exec(*show)).stdout == shown
    mode = "single" if mode == "full" else "full"
    tool = other(machine, users[mode], mode)
    result = succeeded(tool.run("import", str(file), "test"))
    assert trees(tool.environment("test")) == _of_root(expected)
    for words in ("files belonged to users other than root; in the single", "1 file lost access control list entries"):
        assert (words in result.stderr) == (mode == "single")


@pytest.mark.modes("single")
@pytest.mark.usefixtures("stores")
def test_exact_for_fuse_overlayfs(machine: Machine, file: Path) -> None:
    """Whose whiteouts and opaque directories are of another form."""
    environment = _filled(machine)
    expected = trees(environment)
    export(environment, file)
    prefix = accounts.with_fuse(machine.tool.account, file.parent)
    fuse = other(machine, machine.tool.account, "fuse", "--driver", "fuse", prefix=prefix)
    theirs = imported(fuse, file, "test")
    assert trees(theirs) == expected
    assert theirs.sh("ls /srv; ls -A /etc/apt") == environment.sh("ls /srv; ls -A /etc/apt")
    theirs.sh("rm -r /etc/apt; mkdir /etc/apt; touch /etc/apt/.x")
    after = trees(theirs)
    export(theirs, file, "--force")
    back = imported(machine.tool, file, "back")
    left_out = ("/etc/apt/.wh..wh..opq", "/etc/apt/.wh..opq", "/etc", "/etc/debian_chroot")
    assert _but(trees(back), *left_out) == _but(after, *left_out)
    assert back.sh("ls -A /etc/apt; cat /etc/debian_chroot") == ".x\nback\n"


@pytest.mark.modes("full")
@pytest.mark.usefixtures("stores")
def test_by_way_of_the_driver_root(machine: Machine, users: dict[str, Account], file: Path) -> None:
    """It gets what keeps services from being started, which others have in the base; and leaves that behind."""
    environment = _filled(machine)
    expected = trees(environment)
    export(environment, file)
    tool = other(machine, users["root"], "root", "--driver", "root")
    theirs = imported(tool, file, "test")
    assert theirs.sh("/usr/sbin/policy-rc.d || echo $?; stat -c %u:%g /opt/*/deep") == "101\n33:65534\n"
    export(theirs, file, "--force")
    back = imported(machine.tool.at(Path(f"{machine.tool.store}-back")), file, "test")
    assert _grown(trees(back), expected) == []
    assert succeeded(tool.run("snapshot", "test")).returncode == 0


def _grown(found: list[Tree], expected: list[Tree]) -> list[bytes]:
    """Paths that are other than expected, but for directories made for what is not there any more."""
    assert len(found) == len(expected)
    pairs = zip(found, expected, strict=True)
    return [n for new, old in pairs for n in {*new, *old} if new.get(n) != old.get(n) and not _is_parent(n, new, old)]


def _is_parent(name: bytes, new: Tree, old: Tree) -> bool:
    return name not in old and new[name][0] >> 12 == 4 and not any(n.startswith(name + b"/") for n in old)


@pytest.mark.modes("full")
def test_what_is_imported_is_an_environment(machine: Machine, file: Path) -> None:
    """All verbs work on it, under the name that it is given; the state of the host that it is of comes with it."""
    tool, environment = machine.tool, _filled(machine)
    succeeded(tool.run("snapshot", "test", "three"))  # the prompt's file is in a layer below
    environment.sh("echo 1 > /etc/own")
    settings = 'bind = ["/media"]\nshell = "/bin/dash"\n'
    (tool.store / "envs/test/config.toml").write_text(settings)
    export(environment, file)
    changes = json.loads(succeeded(tool.run("diff", "test", "--files", "--json")).stdout)["changes"]
    tool.end("test")
    subprocess.run(["rm", "-rf", tool.store / "origins"], check=True)
    result = succeeded(tool.run("import", str(file), "new", "--json", *tool.options))
    assert [json.loads(result.stdout)[key] for key in ("name", "snapshots")] == ["new", ["one", "two", "three"]]
    assert 'its settings are imported: bind = ["/media"], shell = "/bin/dash"\n' in result.stderr
    new = tool.environment("new")
    assert new.sh("cat /etc/debian_chroot; echo $SYSENV_NS; cat /etc/own") == "new\nnew\n1\n"
    assert json.loads(succeeded(tool.run("diff", "new", "--files", "--json")).stdout)["changes"] == changes
    assert (tool.store / "envs/new/config.toml").read_text() == settings
    machine.sh("echo '# new' >> /etc/adduser.conf; echo x > /usr/bin/of-host")
    new.sh("echo '# own' >> /etc/deluser.conf; cd /var/lib/dpkg; cp -p status x; mv x status")
    succeeded(tool.run("rebase", "new"))
    assert new.sh("tail -n 1 /etc/adduser.conf; tail -n 1 /etc/deluser.conf") == "# new\n# own\n"
    succeeded(tool.run("snapshot", "new", "four"))
    succeeded(tool.run("rollback", "new", "two"))
    assert new.sh("cat /etc/debian_chroot; ls /etc/own 2>&1 || :").startswith("new\nls: cannot access")
    tool.end("new")
    assert os.listdir(tool.store / "layers") == ["lock"]
    assert os.listdir(tool.store / "trash") == []


@pytest.mark.modes("single")
def test_pipes_and_what_is_printed(environment: Environment, file: Path) -> None:
    tool, name = environment.tool, environment.name
    environment.sh("echo 1 > /usr/local/state")
    data = json.loads(succeeded(tool.run("export", name, str(file), "--json")).stdout)
    size = file.stat().st_size
    expected = {"name": name, "file": str(file), "format": "environment", "size": size, "notes": []}
    assert data == {"version": 1, **expected}
    refused(tool.run("export", name, str(file)), 1, f"{file} already exists", "--force")
    told = succeeded(tool.run("export", name, str(file), "--force", "--format", "environment")).stderr
    assert told.startswith(f"sysenv-ns: exported {name} to {file} (")
    pipe = f"{tool.launcher} export {name} - | {tool.launcher} import - piped"
    succeeded(tool.run(prefix=(*tool.account.setpriv(), "sh", "-ec", pipe, "sh"), limit=300))
    assert tool.environment("piped").sh("cat /usr/local/state /etc/debian_chroot") == "1\npiped\n"
    refused(tool.run("import", str(file), "piped"), 1, "piped already exists", "sysenv-ns import")
    refused(tool.run("import", str(file)), 1, f"{name} already exists")
    tool.end("piped")
    terminal = terminals.spawn(environment, str(tool.launcher), "export", name, "-")
    terminal.expect("refusing to write an archive to a terminal")
    terminals.close(terminal)
    terminal = terminals.spawn(environment, str(tool.launcher), "export", "--force", name, str(file))
    terminal.expect(f"Exporting {name} .*%")
    terminals.close(terminal)
    assert terminal.exitstatus == 0


@pytest.mark.modes("single")
def test_mistakes_are_told(environment: Environment, file: Path) -> None:
    tool, name, directory = environment.tool, environment.name, file.parent
    session = sleeper(environment)
    refused(tool.run("export", name, str(file)), 1, f"{name} is running: {session.pid} (", f"sysenv-ns stop {name}")
    end(session)
    refused(tool.run("export", "none", str(file)), 1, "there is no environment none")
    refused(tool.run("export", name, str(directory), "--force"), 1, f"{directory} exists and is not a file")
    refused(tool.run("export", name, "/dev/null", "--force"), 1, "/dev/null exists and is not a file")
    refused(tool.run("export", name, "/nowhere/file"), 1, "/nowhere/file cannot be written", "ENOENT")
    refused(tool.run("export", name, "/etc/sysenv-no-such-file"), 1, "cannot be written", "EACCES")
    refused(tool.run("import", str(file)), 1, f"{file} cannot be read", "ENOENT")
    refused(tool.run("import", str(directory)), 1, f"{directory} cannot be read", "EISDIR")
    assert os.listdir(directory) == []


def _is_there(directory: Path, pattern: str) -> bool:
    return list(directory.glob(pattern)) != []


def _is_clean(environment: Environment, file: Path) -> None:
    """Nothing of an environment that was not imported is left, once another command has tidied up."""
    tool = environment.tool
    export(environment, file, "--force")
    imported(tool, file, "other")
    tool.end("other")
    assert os.listdir(tool.store / "trash") == []
    assert os.listdir(tool.store / "layers") == ["lock"]


@pytest.mark.modes("full")
def test_an_interrupted_import_leaves_nothing(environment: Environment, file: Path) -> None:
    """In the middle of the data, where it waits for more of it."""
    tool = environment.tool
    trash = tool.store / "trash"
    environment.sh("head -c 3000000 /dev/urandom > /usr/local/one; cp /usr/local/one /usr/local/two")
    export(environment, file)
    data = file.read_bytes()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = tool.start("import", "-", f"half-{number}")
        assert process.stdin is not None
        os.write(process.stdin.fileno(), data[: len(data) // 2])
        wait_for(partial(_is_there, trash, f"new-half-{number}.*/layers/0/upper/usr/local/one"))
        os.killpg(process.pid, number)
        assert finish(process).returncode != 0
        if number == signal.SIGINT:
            assert list(trash.glob("new-*")) == []
        assert f"half-{number}" not in succeeded(tool.run("list")).stdout
    _is_clean(environment, file)


@pytest.mark.modes("full")
def test_killed_at_any_moment(environment: Environment, file: Path) -> None:
    """The file, and what is imported of it, are there as a whole or not at all."""
    tool, rng = environment.tool, random.Random(3)
    environment.sh("head -c 20000000 /dev/urandom > /usr/local/big; md5sum /usr/local/big > /usr/local/sum")
    begin = time.monotonic()
    export(environment, file)
    usual = time.monotonic() - begin
    for part in range(6):
        target = file.with_name("killed")
        command = ("export", environment.name, str(target)) if part % 2 else ("import", str(file), "killed")
        process = tool.start(*command)
        time.sleep(rng.uniform(0.5, 1.2) * usual)
        os.killpg(process.pid, signal.SIGKILL if part < 4 else signal.SIGINT)
        finish(process)
        assert {*os.listdir(file.parent)} <= {file.name, target.name}
        if target.exists():
            target.chmod(0o644)
            assert imported(tool, target, "killed").sh("md5sum -c /usr/local/sum")
            target.unlink()
        if (tool.store / "envs/killed").exists():
            assert tool.environment("killed").sh("md5sum -c /usr/local/sum")
            tool.end("killed")
    _is_clean(environment, file)


@pytest.mark.modes("sudo")
def test_what_sudo_exports_is_the_callers(environment: Environment, file: Path) -> None:
    tool, name = environment.tool, environment.name
    environment.sh("echo 1 > /usr/local/state")
    export(environment, file)
    assert (file.stat().st_uid, file.stat().st_gid) == (tool.account.uid, tool.account.gid)
    pipe = f"{tool.launcher} import --driver root - piped < {file}"
    succeeded(tool.run(prefix=(*tool.prefix, "sh", "-ec", pipe, "sh"), limit=300))
    assert tool.environment("piped").sh("cat /usr/local/state; /usr/sbin/policy-rc.d || echo $?") == "1\n101\n"
    tool.end("piped")
    assert name in succeeded(tool.run("list")).stdout


@pytest.mark.modes("root")
def test_changes_to_another_disk(machine: Machine, file: Path) -> None:
    """The driver root alone has them apart, so they are refused rather than lost."""
    tool = machine.tool
    environment = machine.create()
    environment.sh("echo 1 > /opt/state")
    export(environment, file)
    machine.sh('mount -o loop "$1" /opt', machine.image("disk", "ext4", size="64M"))
    refused(
        tool.run("import", str(file), "new", *tool.options), 1, "it has changes to /opt, a separate file system here"
    )
    assert environment.sh("ls /opt; echo 2 > /opt/state") == "lost+found\n"
    refused(tool.run("export", "test", str(file), "--force"), 1, "it has changes to /opt, a separate file system here")
    assert not (tool.store / "envs/new").exists()
