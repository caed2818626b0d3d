"""apply on a small host that is thrown away, and never on the machine of the tests."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from .debs import Deb
from .machines import Machine
from .support import BASE_LIMIT, Result, succeeded
from .terminals import close, spawn

_MARK = "/this-host-is-thrown-away"
# What every installation leaves behind.
_PASSED_OVER = (
    "var/lib/dpkg",
    "var/lib/apt",
    "var/cache",
    "var/log",
    "var/backups",
    "run",
    "mnt",
    "proc",
    "sys",
    "dev",
)
_PREPARE = """
touch "$1"
[ "$3" = root ] || echo "$3 ALL=(ALL:ALL) NOPASSWD: ALL" > /etc/sudoers.d/test
mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/alternatives /var/lib/dpkg/triggers /var/log/apt /var/lib/apt/lists/partial
mkdir -p /var/cache/apt/archives/partial /var/backups
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
echo "deb [trusted=yes] file:$2 ./" > /etc/apt/sources.list.d/host.list
apt-get -q update
"""
APT = 'export DEBIAN_FRONTEND=noninteractive; apt-get -q -y -o Dpkg::Use-Pty=0 "$@"'


def index(directory: Path, *debs: Deb) -> None:
    """An archive in a directory."""
    for deb in debs:
        data = deb.build(directory).read_bytes()
        with (directory / "Packages").open("a") as stream:
            stream.write(
                f"{deb.control()}Filename: ./{deb.name}_{deb.version}_all.deb\nSize: {len(data)}\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
            )


def prepare(machine: Machine, packages: Path) -> None:
    """Let a small host's apt have the packages of a directory."""
    machine.sh(_PREPARE, _MARK, str(packages), machine.tool.account.name)
    guard(machine)


def guard(machine: Machine) -> None:
    """The root of what follows is the small host's, and not this one's."""
    mine = os.stat("/")
    assert machine.sh('test -e "$1"; stat -c %d:%i /', _MARK) != f"{mine.st_dev}:{mine.st_ino}\n"
    assert not os.path.lexists(_MARK)


def apply(machine: Machine, *arguments: str, **keywords: Any) -> Result:
    """The command's result there."""
    guard(machine)
    return machine.tool.run("apply", *arguments, limit=BASE_LIMIT, **keywords)


def as_json(machine: Machine, *arguments: str) -> dict[str, Any]:
    """What the command says as JSON, when it succeeds."""
    data = json.loads(succeeded(apply(machine, "--json", *arguments)).stdout)
    assert isinstance(data, dict)
    return data


def tree(machine: Machine) -> dict[str, tuple[object, ...]]:
    """What the small host is, but for what every installation leaves."""
    found = {}
    for directory, names, files in os.walk(machine.root):
        below = os.path.relpath(directory, machine.root)
        names[:] = [n for n in names if os.path.normpath(f"{below}/{n}") not in _PASSED_OVER and n != "__pycache__"]
        for name in (*names, *files):
            path = Path(directory, name)
            found[f"/{path.relative_to(machine.root)}"] = _signature(path)
    return found


def _signature(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    content: object = None
    if stat.S_ISLNK(status.st_mode):
        content = path.readlink()
    elif stat.S_ISREG(status.st_mode):
        content = (status.st_mtime_ns, _digest(path, (status.st_ino, status.st_size, status.st_ctime_ns)))
    return (status.st_mode, status.st_uid, status.st_gid, content)


@functools.lru_cache(maxsize=50_000)
def _digest(path: Path, changed: tuple[int, ...]) -> bytes:
    """Of what is in a file, which is read once for each change of it: the time of the inode's change tells of all."""
    return hashlib.sha256(path.read_bytes()).digest()


def asked(machine: Machine) -> Any:
    """An apply in a terminal, at its question."""
    guard(machine)
    program = spawn(machine.environment, str(machine.tool.launcher), "apply", "test")
    program.expect("Make these changes to this system, as root")
    return program


def answered(host: Machine, answer: str) -> None:
    """An apply that gets an answer; with a yes it must be done."""
    program = asked(host)
    program.sendline(answer)
    close(program)
    assert (program.exitstatus == 0) == (answer == "y")
