"""What root may do to files and identities in each id map: the rows of docs/files-and-identities.md, one by one."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from .debs import Deb, Node, assert_sound, change
from .mirror import Mirror
from .support import Environment, describe

State = Literal["real", "emulated", "refused"]

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "files-and-identities.md"


@dataclass(frozen=True)
class Outcome:
    """What becomes of an operation, and what its script prints: all of it, or of an error message a part."""

    state: State
    output: str


@dataclass(frozen=True)
class Row:
    """An operation, the script that tries it as root in an empty directory, and its outcome in each map."""

    operation: str
    script: str
    full: Outcome
    single: Outcome


def real(output: str) -> Outcome:
    return Outcome("real", output)


def emulated(output: str) -> Outcome:
    return Outcome("emulated", output)


def refused(reason: str) -> Outcome:
    return Outcome("refused", reason)


def row(operation: str, script: str, full: Outcome, single: Outcome | None = None) -> Row:
    return Row(operation, script, full, single or full)


_RAW_SOCKET = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"
_LOW_PORT = "import socket; socket.socket().bind(('127.0.0.1', 81))"
_SOCKET = "import socket; socket.socket(socket.AF_UNIX).bind('s')"

ROWS = (
    row("chown to another user", "touch f; chown 33:44 f; stat -c %u:%g f", real("33:44"), emulated("0:0")),
    row(
        "chown to a number above 65535",
        "touch f; chown 1203400500 f && stat -c %u f",
        refused("Invalid argument"),
        emulated("0"),
    ),
    row("chown in your home", "touch ~me/f; chown 33 ~me/f; stat -c %u ~me/f", real("33"), emulated("0")),
    row("chmod, with setuid, setgid and sticky bits", "touch f; chmod 7751 f; stat -c %a f", real("7751")),
    row(
        "a new file in a setgid directory gets its group",
        "mkdir d; chgrp 44 d; chmod 2775 d; touch d/f; stat -c %a d; stat -c %g d/f",
        real("2775\n44"),
        emulated("2775\n0"),
    ),
    row(
        "a setuid-root program makes its caller root",
        "cp /usr/bin/id ./id; chmod 4755 ./id; setpriv --reuid 33 --clear-groups ./id -u",
        real("0"),
    ),
    row("setuid(2) and its like", "setpriv --reuid 33 --clear-groups id -u", real("33"), emulated("0")),
    row("setgroups(2)", "setpriv --groups 4,5 id -G | grep -c ' 4 5' || true", real("1"), emulated("0")),
    row("setcap, getcap", "cp /bin/true f; setcap cap_net_raw+ep f; getcap f", real("f cap_net_raw=ep")),
    row(
        "an access control list for another user or group",
        "touch f; setfacl -m u:33:r,g:44:rw f; getfacl -cn f | sed '/^$/d'",
        real("user::rw-\nuser:33:r--\ngroup::r--\ngroup:44:rw-\nmask::rw-\nother::r--"),
        emulated("user::rw-\ngroup::r--\nmask::rw-\nother::r--"),
    ),
    row(
        "a default access control list",
        "mkdir d; setfacl -d -m u:33:r d; getfacl -cdn d | sed '/^$/d'",
        real("user::rwx\nuser:33:r--\ngroup::r-x\nmask::r-x\nother::r-x"),
        emulated("user::rwx\ngroup::r-x\nmask::r-x\nother::r-x"),
    ),
    row(
        "extended attributes user.*",
        "touch f; setfattr -n user.k -v v f; getfattr --only-values -n user.k f",
        real("v"),
    ),
    row("extended attributes trusted.*", "touch f; setfattr -n trusted.k -v v f", refused("Operation not permitted")),
    row("other attributes security.*", "touch f; setfattr -n security.k -v v f", refused("Operation not permitted")),
    row("the attributes of chattr that root alone sets", "touch f; chattr +i f", refused("Operation not permitted")),
    row("a hard link, also to a file of the host", "ln /usr/bin/tsort f; stat -c %h f", real("2")),
    row(
        "mv of a directory of the host", "mv /usr/share/base-files d; test -s d/dot.bashrc && echo moved", real("moved")
    ),
    row(
        "rename(2) of a directory of the host",
        'python3 -c \'import os; os.rename("/usr/share/bug", "/usr/share/moved")\'; echo /usr/share/[bm][uo][gv]*',
        real("/usr/share/moved"),
    ),
    row("a FIFO", "mkfifo p; stat -c %F p", real("fifo")),
    row("a socket", f'python3 -c "{_SOCKET}"; stat -c %F s', real("socket")),
    row(
        "a device node (an empty file stands in)",
        "mknod -m 640 n c 1 3; mknod b b 7 0; stat -c '%F %a' n b",
        emulated("regular empty file 640\nregular empty file 644"),
    ),
    row("using the host's device nodes", "echo x > /dev/null; head -c 3 /dev/zero | wc -c", real("3")),
    row("chroot", "chroot /usr /bin/true; echo done", real("done")),
    row("mounting tmpfs, overlay, bind", "unshare -m sh -c 'mount -t tmpfs t /mnt; stat -fc %T /mnt'", real("tmpfs")),
    row("mounting a disk", "mknod disk b 7 0; mount -t ext4 /dev/loop0 /mnt", refused("mount")),
    row("a file of the host outside of the overlay", "chmod 755 /home", refused("Operation not permitted")),
    row("settings of the kernel", "echo 1 > /proc/sys/vm/drop_caches", refused("denied")),
    row("a TCP port below 1024", f'python3 -c "{_LOW_PORT}"', refused("Permission denied")),
    row("a raw socket", f'python3 -c "{_RAW_SOCKET}"', refused("Operation not permitted")),
)


@pytest.fixture(scope="module")
def equipped(shared_environment: Environment, mirror: Mirror) -> Environment:
    """An environment with the programs that the rows need."""
    mirror.install(shared_environment, "acl", "attr", "libcap2-bin")
    return shared_environment


_WITH_FUSE = {
    "an access control list for another user or group": refused("Operation not supported"),
    "a default access control list": refused("Operation not supported"),
    "the attributes of chattr that root alone sets": refused("Operation not supported"),
}
# /usr is a file system of its own.
_WITH_IDMAP = {"a hard link, also to a file of the host": refused("Invalid cross-device link")}


@pytest.mark.modes("full", "single")
@pytest.mark.parametrize("case", ROWS, ids=lambda row: row.operation)
def test_row(equipped: Environment, case: Row) -> None:
    environment = equipped
    home = environment.tool.account.home
    # The system's Python: one of the user's would need the user's home.
    script = case.script.replace("~me", str(home)).replace("python3", "/usr/bin/python3")
    result = environment.exec("sh", "-ec", f"cd $(mktemp -d -p /opt)\n{script}")
    (home / "f").unlink(missing_ok=True)
    expected = case.full if environment.tool.mode == "full" else case.single
    if environment.tool.driver == "fuse":
        expected = _WITH_FUSE.get(case.operation, expected)
    if environment.tool.driver == "idmap":
        expected = _WITH_IDMAP.get(case.operation, expected)
    if expected.state == "refused":
        assert result.returncode != 0, describe(result)
        assert expected.output in result.stderr, describe(result)
    else:
        assert (result.returncode, result.stdout.strip()) == (0, expected.output), describe(result)
        assert result.stderr == ""


def test_the_document_has_these_rows() -> None:
    lines = _DOCUMENT.read_text().splitlines()
    documented = [tuple(cell.strip() for cell in line.split("|")[1:4]) for line in lines if line.startswith("| ")]
    assert documented[1:] == [(case.operation, case.full.state, case.single.state) for case in ROWS]


_NODES = (
    Node("usr/lib/nodes/fifo", tarfile.FIFOTYPE, 0o644),
    Node("usr/lib/nodes/loop", tarfile.BLKTYPE, 0o644, device=(7, 0)),
    Node("usr/lib/nodes/null", tarfile.CHRTYPE, 0o660, gid=33, device=(1, 3)),
    Node("usr/lib/nodes/same", tarfile.LNKTYPE, 0o660, gid=33, link="./usr/lib/nodes/null"),
)


@pytest.mark.modes("full", "single")
def test_package_with_device_nodes(environment: Environment, shared: Path) -> None:
    deb = Deb("nodes").build(shared, _NODES)
    group = "www-data" if environment.tool.mode == "full" else "root"
    change(environment, 'dpkg -i "$1"', str(deb))
    listing = environment.sh("cd /usr/lib/nodes; stat -c '%n %a %G %F' *").splitlines()
    assert listing == [
        "fifo 644 root fifo",
        "loop 644 root regular empty file",
        f"null 660 {group} regular empty file",
        f"same 660 {group} regular empty file",
    ]
    assert_sound(environment)
    change(environment, "dpkg --purge nodes; test ! -e /usr/lib/nodes")


_ACL = """\
#!/bin/sh
set -e
mkdir -p /var/lib/lists
setfacl -m u:www-data:rwx,g:adm:rx -d -m u:www-data:rx /var/lib/lists
setfacl -m g:adm:r /etc/debian_version
"""


@pytest.mark.modes("full", "single")
def test_package_that_sets_access_control_lists(environment: Environment, shared: Path) -> None:
    if environment.tool.driver == "fuse":
        pytest.skip("a FUSE file system in a user namespace has no access control lists")
    deb = Deb("lists", scripts={"postinst": _ACL}).build(shared)
    change(environment, 'dpkg -i "$1"', str(deb))
    named = environment.sh("getfacl -cp /var/lib/lists | grep -c www-data || true").strip()
    assert named == ("2" if environment.tool.mode == "full" else "0")
    assert_sound(environment)


@pytest.mark.modes("full", "single")
def test_device_nodes_are_made_where_the_caller_means(environment: Environment) -> None:
    """Relative to a descriptor or its own directory, inside a chroot, with its umask; errors are the kernel's own."""
    script = """
import os, stat
device, null = stat.S_IFCHR | 0o666, os.makedev(1, 3)
os.makedirs("/opt/root/sub")
os.chdir("/opt")
os.umask(0o027)
directory = os.open("root", os.O_DIRECTORY)
os.mknod("by-descriptor", device, null, dir_fd=directory)
os.mknod("by-directory", device, null)
for path in ("by-directory", "missing/node", "/proc/node"):
    try:
        os.mknod(path, device, null)
    except OSError as error:
        print(type(error).__name__)
os.chroot("/opt/root")
os.mknod("/sub/by-root", device, null)
"""
    errors = environment.sh('/usr/bin/python3 -c "$1"', script).split()
    assert errors[:2] == ["FileExistsError", "FileNotFoundError"]
    assert len(errors) == 3
    made = environment.sh("cd /opt; stat -c '%n %a' by-directory root/by-descriptor root/sub/by-root").splitlines()
    assert made == ["by-directory 640", "root/by-descriptor 640", "root/sub/by-root 640"]


@pytest.mark.modes("full")
def test_only_root_makes_device_nodes(environment: Environment) -> None:
    result = environment.exec("mknod", "/tmp/sysenv-test-node", "c", "1", "3", identity="--me")
    assert (result.returncode, "Operation not permitted" in result.stderr) == (1, True)
    assert not Path("/tmp/sysenv-test-node").exists()


@pytest.mark.modes("full", more=("single",))
def test_signals_do_not_come_between(environment: Environment) -> None:
    """A call that has been carried out is not carried out again when a handler returns (SA_RESTART)."""
    script = """
import os, signal, stat
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
for number in range(50):
    os.mknod(f"/opt/node{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    environment.sh('/usr/bin/python3 -c "$1"; ls /opt/node49', script)


@pytest.mark.modes("full")
def test_a_capability_is_not_more_than_it_is(environment: Environment) -> None:
    """Who may make device nodes may not for that enter root's directories."""
    script = """
        mkdir -m 700 /opt/closed; mkdir -m 777 /opt/open
        as="setpriv --reuid 33 --clear-groups --inh-caps +mknod --ambient-caps +mknod"
        $as mknod /opt/open/node c 1 3
        ! $as mknod /opt/closed/node c 1 3
        stat -c %u /opt/open/node
    """
    assert environment.sh(script) == "33\n"


@pytest.mark.modes("single")
def test_a_senseless_call_does_not_end_the_service(environment: Environment) -> None:
    script = """
import ctypes, os, stat
libc = ctypes.CDLL(None, use_errno=True)
os.close(os.open("/opt/file", os.O_CREAT))
for size in (1 << 62, 1 << 33, 3):
    libc.setxattr(b"/opt/file", b"system.posix_acl_access", b"abc", ctypes.c_size_t(size), 0)
libc.setxattr(ctypes.c_void_p(1), ctypes.c_void_p(2), ctypes.c_void_p(3), ctypes.c_size_t(4), 0)
os.setxattr("/opt/file", "user.k", b"v")
os.mknod("/opt/node", stat.S_IFCHR | 0o666, os.makedev(1, 3))
"""
    environment.sh('/usr/bin/python3 -c "$1"', script)
