"""export and import: trees come back exactly for other users, id maps and drivers; nothing half-made, nothing wrong."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .machines import Machine
from .support import (
    BASE_LIMIT,
    Account,
    Environment,
    Tool,
    succeeded,
)

_CHANGES = Path(__file__).parents[1] / "unit" / "changes.py"
_CHANGE = """
import subprocess, sys
Path.rename = lambda path, target: subprocess.run(["mv", "-T", path, target], check=True)
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
mkdir /opt/acl; setfacl -m u:33:r,g:8:rwx,d:u:7:rw /opt/acl; cp /bin/true /opt/true; setcap cap_net_raw+ep /opt/true
"""
_REPLACED = """
rm -r /usr/share/doc/apt /etc/apt; mkdir /etc/apt; echo 1 > /etc/apt/new; rm /usr/bin/apt-key 2>/dev/null || :
chmod 700 /usr/bin/mount; rm /usr/share/common-licenses/GPL-3; mv /usr/share/doc/adduser /usr/share/moved
"""


def _random(environment: Environment, seed: int) -> None:
    environment.sh('python3 -c "$1" $2', f"{_CHANGES.read_text()}\n{_CHANGE}", str(seed))


def _layers(environment: Environment) -> list[Path]:
    """Its directories of changes, and those of all its snapshots."""
    store = environment.tool.store
    path = store / "envs" / environment.name
    data = json.loads((path / "env.json").read_text())
    chains = [data.get("layers", []), *(snapshot["layers"] for snapshot in data.get("snapshots", []))]
    idents = dict.fromkeys(ident for chain in chains for ident in chain)
    return [path / "upper", *(store / "layers" / ident / "upper" for ident in idents)]


def _trees(environment: Environment) -> list[dict[bytes, Any]]:
    """All that is in these, with owners as they are inside and no notes of an overlay to itself."""
    data = json.loads((environment.tool.store / "envs" / environment.name / "env.json").read_text())
    id_map = data["id_map"] or {key: [{"inside": 0, "outside": 0, "count": 1 << 32}] for key in ("uids", "gids")}
    return [_tree(os.fsencode(path), id_map) for path in _layers(environment)]


def _tree(root: bytes, id_map: dict[str, Any]) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    links: dict[int, bytes] = {}
    waiting = [root]
    while waiting:
        path = waiting.pop()
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        name = path[len(root) :]
        if kind == stat.S_IFCHR and status.st_rdev == 0:
            found[name] = "whiteout"
            continue
        content: Any = b""
        if kind == stat.S_IFDIR:
            waiting += sorted((os.path.join(path, inner) for inner in os.listdir(path)), reverse=True)
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind == stat.S_IFREG:
            data = Path(os.fsdecode(path)).read_bytes()
            content = (hashlib.sha256(data).hexdigest(), len(data))
        owner = (_inside(status.st_uid, id_map["uids"]), _inside(status.st_gid, id_map["gids"]))
        names = [n for n in os.listxattr(path, follow_symlinks=False) if n.startswith("user.") and ".overlay." not in n]
        attributes = {n: os.getxattr(path, n, follow_symlinks=False) for n in names}
        opaque = [n for n in os.listxattr(path, follow_symlinks=False) if n.endswith(".opaque")]
        first = links.setdefault(status.st_ino, name) if status.st_nlink > 1 and kind != stat.S_IFDIR else b""
        found[name] = [status.st_mode, owner, status.st_mtime_ns, content, attributes, bool(opaque), first]
    return found


def _inside(number: int, extents: list[dict[str, int]]) -> int:
    return next(e["inside"] + number - e["outside"] for e in extents if 0 <= number - e["outside"] < e["count"])


def _of_root(trees: list[dict[bytes, Any]]) -> list[dict[bytes, Any]]:
    return [{n: e if e == "whiteout" else [e[0], (0, 0), *e[2:]] for n, e in tree.items()} for tree in trees]


def _other(machine: Machine, account: Account, mode: str) -> Tool:
    """The tool of another user of the machine."""
    tool = machine.tool
    prefix = (*machine.prefix, *account.setpriv())
    store = Path(f"{tool.store}-{mode}")
    return replace(tool, mode=mode, account=account, store=store, options=(), prefix=prefix)


def _export(environment: Environment, file: Path, *options: str) -> None:
    succeeded(environment.tool.run("export", environment.name, str(file), *options))
    assert file.stat().st_mode & 0o7777 == 0o600
    file.chmod(0o644)


def _import(tool: Tool, file: Path, name: str, *options: str) -> Environment:
    succeeded(tool.run("import", str(file), name, *options, limit=BASE_LIMIT))
    return tool.environment(name)


@pytest.fixture
def file(tool: Tool) -> Iterator[Path]:
    """Where an archive may be written, in a directory of the user's that all can read, and /tmp is everywhere."""
    directory = Path("/tmp") / f"sysenv-archive-{os.getpid()}"
    directory.mkdir(mode=0o755)
    os.chown(directory, tool.account.uid, tool.account.gid)
    yield directory / "test.tar.zst"
    subprocess.run(["rm", "-rf", directory], check=True)


@pytest.mark.modes("full", "single")
def test_exact_for_other_users_maps_and_drivers(machine: Machine, users: dict[str, Account], file: Path) -> None:
    """Everything of all layers: there and back again."""
    environment = machine.create()
    environment.sh('python3 -c "$1"', _SPECIAL)
    _random(environment, 1)
    succeeded(machine.tool.run("snapshot", "test", "one"))
    environment.sh(_REPLACED)
    if machine.tool.mode == "full":
        environment.sh(_OWNED)
    _random(environment, 2)
    succeeded(machine.tool.run("snapshot", "test", "two"))
    _random(environment, 3)
    expected = _trees(environment)
    assert any(e != "whiteout" and e[5] for tree in expected for e in tree.values())  # opaque directories
    _export(environment, file)
    again = _import(machine.tool, file, "test", "--force") if False else None
    assert again is None
    copy = _import(machine.tool, file, "copy", "--driver", "copy", "--id-map", machine.tool.mode)
    assert _without_name(_trees(copy)) == _without_name(expected)
    mode = "single" if machine.tool.mode == "full" else "full"
    other = _other(machine, users[mode], mode)
    try:
        theirs = _import(other, file, "test")
        assert _trees(theirs) == _of_root(expected)
    finally:
        subprocess.run(["rm", "-rf", other.store], check=True)


def _without_name(trees: list[dict[bytes, Any]]) -> list[dict[bytes, Any]]:
    return [{n: e for n, e in tree.items() if n != b"/etc/debian_chroot"} for tree in trees]
