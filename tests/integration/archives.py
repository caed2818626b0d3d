"""Archives of environments for tests: what is in an environment as it lies in the store, and archives made by hand."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sysenv_ns.archive import compression, manifest, tarball
from sysenv_ns.archive.manifest import ArchivedLayer, ArchiveManifest
from sysenv_ns.archive.tarball import Member

from .machines import Machine
from .support import BASE_LIMIT, Account, Environment, Tool, succeeded

Tree = dict[bytes, Any]


def layers(environment: Environment) -> list[Path]:
    """Its directories of changes, and those of all its snapshots."""
    store = environment.tool.store
    path = store / "envs" / environment.name
    data = json.loads((path / "env.json").read_text())
    chains = [data.get("layers", []), *(snapshot["layers"] for snapshot in data.get("snapshots", []))]
    idents = dict.fromkeys(ident for chain in chains for ident in chain)
    return [path / "upper", *(store / "layers" / ident / "upper" for ident in idents)]


def trees(environment: Environment) -> list[Tree]:
    """All that is in these, with owners as they are inside and no notes of an overlay to itself."""
    data = json.loads((environment.tool.store / "envs" / environment.name / "env.json").read_text())
    id_map = data["id_map"] or {key: [{"inside": 0, "outside": 0, "count": 1 << 32}] for key in ("uids", "gids")}
    return [_tree(os.fsencode(path), id_map) for path in layers(environment)]


def _tree(root: bytes, id_map: dict[str, Any]) -> Tree:
    found: Tree = {}
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
        names = os.listxattr(path, follow_symlinks=False)
        own = [n for n in names if n.startswith("user.") and "overlay" not in n]
        attributes = {n: os.getxattr(path, n, follow_symlinks=False) for n in own}
        opaque = [n for n in names if n.endswith(".opaque")]
        first = links.setdefault(status.st_ino, name) if status.st_nlink > 1 and kind != stat.S_IFDIR else b""
        found[name] = [status.st_mode, owner, status.st_mtime_ns, content, attributes, bool(opaque), first]
    return found


def _inside(number: int, extents: list[dict[str, int]]) -> int:
    return next(e["inside"] + number - e["outside"] for e in extents if 0 <= number - e["outside"] < e["count"])


def other(machine: Machine, account: Account, mode: str, *options: str, prefix: tuple[str, ...] = ()) -> Tool:
    """The tool of another user of a machine, with a store of its own."""
    before = (*machine.prefix, *(prefix or account.setpriv()))
    store = Path(f"{machine.tool.store}-{mode}")
    return replace(machine.tool, mode=mode, account=account, store=store, options=options, prefix=before)


def export(environment: Environment, file: Path, *options: str) -> None:
    """Write an archive, which all may read afterwards."""
    succeeded(environment.tool.run("export", environment.name, str(file), *options))
    assert file.stat().st_mode & 0o7777 == 0o600
    file.chmod(0o644)


def imported(tool: Tool, file: Path, name: str, *options: str) -> Environment:
    """What is made of it."""
    succeeded(tool.run("import", str(file), name, *tool.options, *options, limit=BASE_LIMIT))
    return tool.environment(name)


def description(**changes: Any) -> ArchiveManifest:
    """That of an environment with one layer, made here."""
    whole = ArchiveManifest(
        "forged", "stub", "full", 1.0, manifest.machine(), (ArchivedLayer(None, None),), (0,), (), 0
    )
    return replace(whole, **changes)


def forged(
    file: Path, members: Iterable[tuple[Member, bytes]], found: ArchiveManifest | None = None, end: str = ""
) -> None:
    """Write an archive with these members in its layer; `end`: another checksum than the right one."""
    root = Member(b"layers/0", "directory", 0o755)
    said = manifest.encode(found or description())
    data = b"".join(_member(m, content) for m, content in [_own(manifest.NAME, said), (root, b""), *members])
    last = json.dumps({"sha256": end or hashlib.sha256(data).hexdigest()}).encode()
    compress(file, data + _member(*_own(manifest.END, last)) + tarball.END)


def compress(file: Path, data: bytes) -> None:
    """Write data as export writes its own."""
    with file.open("wb") as stream, compression.writer(stream) as compressed:
        compressed.write(data)
    file.chmod(0o644)


def _own(name: str, content: bytes) -> tuple[Member, bytes]:
    return Member(name.encode(), "file", 0o644, size=len(content)), content


def _member(member: Member, content: bytes) -> bytes:
    return tarball.encode(member) + content + tarball.padding(member.stored)


def blob(directory: Path, data: bytes) -> dict[str, Any]:
    """Put a blob into the directory of an OCI layout; what a descriptor says of it."""
    digest = hashlib.sha256(data).hexdigest()
    (directory / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}
