"""Small hosts with a root and a mount table of their own, in private mount namespaces; only for pytest run by root."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import cache_from_source
from pathlib import Path

from . import accounts
from .support import BASE_LIMIT, Argument, Environment, Tool, ended, line, succeeded, wait_for
from .workers import locked

# What the tool and the tests run; with what they depend on and the essential packages some 120.
_PACKAGES = (
    "adduser",
    "apt",
    "attr",
    "e2fsprogs",
    "fuse-overlayfs",
    "libcap2-bin",
    "libseccomp2",
    "mount",
    "python3",
    "sudo",
    "uidmap",
)
_TOP = (
    *("boot", "dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp"),
    *("usr/local/bin", "var/tmp", "var/opt", "var/backups", "var/log/apt"),
    *("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"),
    *("var/lib/dpkg/alternatives", "var/lib/dpkg/info", "var/lib/dpkg/triggers", "var/lib/dpkg/updates"),
)
# What a small system has dpkg leave out, a third of all bytes and files: translations, manuals, what upstream says.
_LEFT_OUT = re.compile(
    r"/?usr/(share/(locale/.+|man/.+/.+|doc/.+/(changelog|NEWS|ChangeLog|README)[^/]*)|lib/[^/]+/gconv/.+\.so"
    # and of Perl and Python what nothing here uses
    r"|lib/[^/]+/perl-base/unicore/lib/.+"
    r"|lib/python3[^/]*/(encodings/(big5|cp|euc|gb|hp|iso|johab|koi|kz|mac|palm|ptcp|shift|tis)[^/]+"
    r"|(ensurepip|lib2to3|pydoc_data|tkinter|turtledemo|wsgiref|xmlrpc)/.+))"
)
# base-files makes the first wherever it is missing, whenever the package is configured or triggered. apt before 2.9
# reads keys in /etc/apt/trusted.gpg.d by awk, an alternative.
_OF_NO_PACKAGE = ("/usr/share/info/dir", "/usr/bin/awk", "/var/lib/dpkg/alternatives/awk")
_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
# Some of what the packages of a system with an un-merged /usr have in /bin and /lib.
_IN_BIN = ("bash", "cat", "cp", "dash", "echo", "ls", "mkdir", "mount", "mv", "rm", "sh", "sleep", "touch", "true")
_IN_LIB = ("libselinux.so.*", "libtinfo.so.*")

_ACCOUNTS = ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")
_SIZE = 2 << 30  # bytes; images are sparse
_numbers = itertools.count(1)

_START = """
root=$1
shift
mount --bind "$root" "$root"
for directory in /dev /proc /sys /tmp "$@"; do
    mkdir -p "$root$directory"
    mount --rbind "$directory" "$root$directory"
done
cd "$root"
pivot_root . .
umount --lazy .
mount --make-rshared /
echo ready
read -r end
"""


@dataclass(frozen=True)
class Machine:
    """A running small host, and the tool as a user of it."""

    root: Path
    prefix: tuple[str, ...]  # of a command that its root runs there
    tool: Tool

    @property
    def environment(self) -> Environment:
        """The one that a test uses."""
        return self.tool.environment("test")

    def create(self, *options: str) -> Environment:
        """Make it, when all disks are mounted."""
        if self.tool.driver == "idmap":
            accounts.prepare_mounts(self.tool.launcher, self.tool.account, *self.prefix)
        succeeded(self.tool.run("create", *(options or self.tool.options), "test", limit=BASE_LIMIT))
        return self.environment

    def sh(self, script: str, *arguments: Argument) -> str:
        """The output of a shell script that must succeed, run as the machine's root."""
        return output(*self.prefix, "sh", "-ec", script, "sh", *arguments)

    def image(self, name: str, fstype: str, *options: str, size: str = "512M") -> str:
        """A disk with a new file system, as a path there; `mount -o loop` takes it."""
        path = self.root / "mnt" / name
        output("truncate", f"--size={size}", path)
        quiet = () if fstype == "vfat" else ("-q",)
        output(f"mkfs.{fstype}", *quiet, *options, path)
        return f"/mnt/{name}"


@contextlib.contextmanager
def started(root: Path, tool: Tool) -> Iterator[Machine]:
    """Run the machine whose files are in `root`: a process holds its mount namespace. /tmp is this host's."""
    # Mounts of disks.py come and go there, too; what is mounted there stays there.
    unshare = ["unshare", "--mount", "--propagation", "slave"]
    command = [*unshare, "sh", "-ec", _START, "sh", str(root), str(tool.account.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert line(holder) == "ready\n"
            prefix = ("nsenter", f"--target={holder.pid}", "--mount", "--")
            if tool.driver == "idmap":
                accounts.prepare_mounts(tool.launcher, tool.account, *prefix)
            if tool.driver == "fuse":
                accounts.make_fuse(root / "mnt/fuse")
                output(*prefix, "mount", "--bind", "/mnt/fuse", "/dev/fuse")
            yield Machine(root, prefix, replace(tool, prefix=(*prefix, *tool.account.setpriv())))
        finally:
            holder.kill()


def build_image(path: Path) -> None:
    """Make the disk of a small host; its files are below /root there."""
    with path.open("wb") as stream:
        stream.truncate(_SIZE)
    # With a journal: without one ext4 looks at all inodes that were deleted in the last minutes before it takes one.
    output("mkfs.ext4", "-q", "-m", "0", "-N", "100000", "-J", "size=8", path)
    with mounted(path) as directory:
        build(directory / "root")
    _wait_until_written(path)


def with_accounts(image: Path) -> Path:
    """A copy of a small host's disk that has the users of this host of today."""
    copy = image.with_name(f"{image.stem}-{os.getpid()}.img")
    output("cp", image, copy)
    with mounted(copy) as directory:
        for name in _ACCOUNTS:
            output("cp", "-a", f"/etc/{name}", directory / "root/etc" / name)
    _wait_until_written(copy)
    return copy


def with_base(image: Path, tool: Tool) -> Path:
    """A copy of a small host's disk on which the tool has been used once, in its mode."""
    copy = image.with_name(f"{image.stem}-{tool.mode}.img")
    with copied(image, tool, copy) as machine:
        machine.create()
        succeeded(machine.tool.run("remove", "--purge", machine.environment.name))
    _wait_until_written(copy)
    return copy


@contextlib.contextmanager
def copied(image: Path, tool: Tool, copy: Path | None = None) -> Iterator[Machine]:
    """Run a small host from a copy of its disk, with stores on the same disk; a copy that is named here is kept.

    As the copy has all inode numbers and times, it is for a base the host that this was made of.
    """
    disk = copy or image.with_name(f"machine-{os.getpid()}-{next(_numbers)}.img")
    output("cp", image, disk)
    try:
        with mounted(disk) as directory:
            stores = directory / "stores"
            stores.mkdir(exist_ok=True)
            stores.chmod(0o1777)
            with started(directory / "root", tool.at(stores / "store")) as machine:
                yield machine
    finally:
        if copy is None:
            disk.unlink()


@contextlib.contextmanager
def mounted(image: Path, *options: str) -> Iterator[Path]:
    """Mount a disk beside its image."""
    directory = Path(tempfile.mkdtemp(prefix="mounted-", dir=image.parent))
    directory.chmod(0o755)
    output("mount", "-o", ",".join(("loop", *options)), image, directory)
    try:
        yield directory
    finally:
        output("umount", "--lazy", directory)  # what a test has left running may be using it
        directory.rmdir()


def _wait_until_written(image: Path) -> None:
    """Wait until nobody has a disk mounted any more: then all of it is in its image."""
    backing = [path for path in Path("/sys/block").glob("loop*/loop/backing_file") if _text(path) == f"{image}\n"]
    for path in backing:
        wait_for(lambda path=path: _text(path) != f"{image}\n")  # type: ignore[misc]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the device is gone
        return ""


def build(root: Path) -> None:
    """Copy the files of a few packages of this host, and its /etc, to a directory: 100 MB in 3,300 files."""
    packages = sorted(_closure(_PACKAGES))
    for name in _TOP:
        (root / name).mkdir(parents=True)
    links = [name for name in _LINKS if Path("/", name).is_symlink()]
    for name in links:
        (root / name).symlink_to(Path("/", name).readlink())
    listed = (line for line in output("dpkg-query", "--listfiles", *packages).splitlines() if line[:1] == "/")
    info = [str(path) for name in packages for path in Path("/var/lib/dpkg/info").glob(f"{name}[.:]*")]
    info.append("/var/lib/dpkg/info/format")
    made = {f"/{name}" for name in (*_TOP, *links, "usr", ".")}
    wanted = {path for path in {*listed, *info, *_OF_NO_PACKAGE} - made if not _LEFT_OUT.fullmatch(path)}
    # What postinst scripts compile: else each start of the tool there compiles what it imports, in 0.15 s.
    wanted |= {cache_from_source(path) for path in wanted if path.endswith(".py")}
    real = {os.path.join(os.path.realpath(path.parent), path.name) for path in map(Path, wanted)}
    _copy(root, "--no-recursion", [path for path in sorted(real) if os.path.lexists(path)])
    with locked(accounts.DATABASES):  # no other worker makes users meanwhile: tar fails where a directory changes
        _copy(root, "--recursion", ["/etc"])
    (root / "var/lib/dpkg/status").write_text(output("dpkg-query", "--status", *packages))
    _forget(root)
    _copy_triggers(root / "var/lib/dpkg/triggers", packages)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)


def _forget(root: Path) -> None:
    """Let the packages of a small host have no files that it has not: a path is a line, or what follows a sum in it."""
    for kind in ("list", "md5sums"):
        for path in (root / "var/lib/dpkg/info").glob(f"*.{kind}"):
            lines = path.read_text().splitlines(keepends=True)
            kept = [
                line for line in lines if not _LEFT_OUT.fullmatch(line.split(maxsplit=kind == "md5sums")[-1].strip())
            ]
            if kept != lines:
                path.write_text("".join(kept))


def _copy_triggers(directory: Path, packages: Sequence[str]) -> None:
    """What some packages are interested in. Without any, dpkg takes all for triggered: as if it were new to it."""
    for path in Path("/var/lib/dpkg/triggers").iterdir():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if re.split("[:/]", line.split()[-1])[0] in packages]
        if kept or not lines:
            (directory / path.name).write_text("".join(kept))


def unmerge_usr(root: Path) -> None:
    """Make /bin, /sbin and /lib real directories with a part of what such a system has in them."""
    for name in _LINKS:
        if (root / name).is_symlink():
            (root / name).unlink()
            (root / name).mkdir(mode=0o755)
    for name in _IN_BIN:
        (root / "usr/bin" / name).rename(root / "bin" / name)
    for directory in (root / "usr/lib").glob("*-linux-gnu*"):
        (root / "lib" / directory.name).mkdir()
        for path in (found for pattern in _IN_LIB for found in directory.glob(pattern)):
            path.rename(root / "lib" / directory.name / path.name)
    for name in ("lib", "lib64"):  # the loader is named by its path in every program
        for loader in (root / "usr" / name).glob("ld-linux*"):
            loader.rename(root / name / loader.name)
            (root / name / loader.name).unlink()
            (target,) = (root / "usr/lib").glob(f"*/{loader.name}")
            (root / name / loader.name).symlink_to(f"/{target.relative_to(root)}")


def _closure(names: tuple[str, ...]) -> set[str]:
    """These and the essential packages with all that they depend on, as far as it is installed."""
    form = "${Package}\t${Essential}\t${Pre-Depends}, ${Depends}\t${Provides}\n"
    lines = [line.split("\t") for line in output("dpkg-query", "--show", f"--showformat={form}").splitlines()]
    provided = {virtual: name for name, _, _, provides in lines for virtual in _names(provides)}
    depends = {name: wanted for name, _, wanted, _ in lines}
    waiting = [*names, *(name for name, essential, _, _ in lines if essential == "yes")]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found and name in depends:
            found.add(name)
            for alternatives in depends[name].split(","):
                choices = (n if n in depends else provided.get(n) for n in _names(alternatives.replace("|", ",")))
                waiting += [choice for choice in choices if choice][:1]
    return found


def _names(relation: str) -> list[str]:
    return [entry.split()[0].partition(":")[0] for entry in relation.split(",") if entry.strip()]


def _copy(root: Path, recursion: str, paths: list[str]) -> None:
    listing = "".join(f"{path[1:]}\0" for path in paths)
    create = ["tar", "--create", "--directory=/", recursion, "--null", "--files-from=-", "--file=-"]
    extract = ["tar", "--extract", f"--directory={root}", "--same-permissions", "--file=-"]
    with subprocess.Popen(create, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as source:
        assert source.stdin is not None
        extracting = subprocess.Popen(extract, stdin=source.stdout)
        source.stdin.write(listing.encode())
        source.stdin.close()
        assert ended(extracting) == 0
    assert source.returncode == 0


def output(*command: Argument | Path) -> str:
    """The output of a command that must succeed."""
    result = subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=False, timeout=300)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout
