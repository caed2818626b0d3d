"""freeze: an environment as a manifest, and what a manifest leaves out; prints and changes nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sysenv_ns import policy
from sysenv_ns.diff import comparison, difference
from sysenv_ns.diff.changes import Change, PackageChange
from sysenv_ns.diff.difference import Difference
from sysenv_ns.drivers import driver
from sysenv_ns.environment import config
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files.upper import Upper
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.mountinfo import ancestors
from sysenv_ns.manifest import inspection, plans, selection
from sysenv_ns.manifest.document import AddedFile, Manifest, is_key, split
from sysenv_ns.manifest.installed import InstalledState
from sysenv_ns.manifest.plans import Record
from sysenv_ns.manifest.selection import MADE_BY_PACKAGES, Left
from sysenv_ns.packages import dpkg
from sysenv_ns.text import quoted

_SCRIPTS = (".config", ".preinst", ".postinst", ".prerm", ".postrm")
_SCRIPT_LIMIT = 1 << 20  # bytes
_TYPES = ("string", "boolean", "select", "multiselect")  # a text is shown, and has no answer


@dataclass(frozen=True)
class FrozenManifest:
    """A manifest, and what it leaves out."""

    manifest: Manifest
    left: tuple[tuple[str, str], ...]

    def comments(self) -> Iterator[str]:
        """The comments about what is left out."""
        made = [quoted(what) for what, why in self.left if why == MADE_BY_PACKAGES]
        others = [(what, why) for what, why in self.left if why != MADE_BY_PACKAGES]
        if self.left:
            yield "Left out:"
        yield from (f"  {quoted(what)}: {why}" for what, why in others)
        if made:
            yield f"  {', '.join(made)}: {MADE_BY_PACKAGES}"


def freeze(store: Store, name: str, exact: bool) -> FrozenManifest:
    """The manifest of an environment; `exact`: with all versions. Raises SysenvError."""
    found = difference.find(store, name)
    with store.reading().lock(name):
        environment = store.load(name)
        record = inspection.record_of(environment)
        remembered = record.manifest if record else Manifest()
        now = inspection.read(store, environment, remembered.placed, remembered.keys)
        now.own.require_dpkg()
        files, left = _files(environment, found, now, record)
    packages, versions = _packages(now, found.packages, remembered, exact)
    debconf, unanswered = _debconf(now, remembered)
    repositories, unreadable = _repositories(now)
    keys, secret = _keys(now)
    manifest = Manifest(
        name=name,
        release=inspection.release(),
        architecture=now.host.architecture if exact or any(":" in entry for entry in packages) else "",
        architectures=tuple(a for a in now.own.architectures if a not in now.host.architectures),
        packages=packages,
        versions=versions,
        removed=tuple(sorted(set(now.host.packages) - set(now.own.packages))),
        held=tuple(sorted(now.own.held - now.host.held)),
        debconf=debconf,
        env=config.of_manifest(environment),
        repositories=repositories,
        keys=keys,
        files=files,
        scripts=remembered.scripts,
    )
    other_versions = (
        Left(change.name, f"{change.kind}: {change.old} -> {change.new}; --exact writes versions")
        for change in found.packages
        if change.old and change.new and not exact
    )
    rest = [*left, *unanswered, *unreadable, *secret, *other_versions]
    return FrozenManifest(manifest, tuple((row.what, row.why) for row in rest))


def _packages(
    now: InstalledState, changed: Sequence[PackageChange], remembered: Manifest, exact: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The manually installed packages, and the versions of the others where these matter."""
    own = now.own.packages
    asked = [entry for entry in remembered.packages if plans.satisfied(*split(entry), now)]
    names = {split(entry)[0] for entry in asked}
    covered = names | {key for name in names for key in now.own.provided.get(name, ())}
    asked += [name for name in plans.manual(now) if name not in covered]
    if not exact:
        kept = (entry for entry in remembered.versions if plans.satisfied(*split(entry), now, automatic=True))
        return tuple(sorted(asked)), tuple(kept)
    here = (name for name in map(split, asked))
    pinned = sorted(f"{name}={own[name].version}" if name in own else name for name, _ in here)
    named = {split(entry)[0] for entry in pinned}
    others = sorted(c.name for c in changed if c.new and c.name in own and c.name not in named)
    return tuple(pinned), tuple(f"{name}={own[name].version}" for name in others)


def _debconf(now: InstalledState, remembered: Manifest) -> tuple[tuple[str, ...], list[Left]]:
    """The answers that differ from the host's, without passwords, as far as they can be written."""
    found = {line.split(None, 3)[1]: line for line in remembered.debconf}
    left = []
    for question, answer in now.own.answers.items():
        there = now.host.answers.get(question)
        known = question in found
        if answer.type not in _TYPES or answer.owner not in now.own.packages:
            continue
        if not known and (not answer.seen or answer.value == (there.value if there else answer.default)):
            continue
        if "\\" in answer.value or not answer.value.isprintable():
            left.append(Left(f"{answer.owner} {question}", "an answer with several lines"))
        else:
            found[question] = f"{answer.owner} {question} {answer.type} {answer.value}".strip()
    return tuple(sorted(found.values())), left


def _repositories(now: InstalledState) -> tuple[dict[str, str | None], list[Left]]:
    found: dict[str, str | None] = {}
    left = []
    for path in sorted({*now.own.sources, *now.host.sources}):
        content = now.own.sources.get(path)
        if content == now.host.sources.get(path):
            continue
        if path in now.own.private:
            left.append(Left(path, selection.MAYBE_SECRET))
            continue
        try:
            found[path] = None if content is None else content.decode()
        except UnicodeDecodeError:
            left.append(Left(path, "it is not text"))
    return found, left


def _keys(now: InstalledState) -> tuple[dict[str, bytes], list[Left]]:
    """Those that differ from the host's."""
    found = {path: data for path, data in _known_keys(now).items() if now.host.keys.get(path) != data}
    secret = [path for path, data in found.items() if path in now.own.private and not _is_public_key(data)]
    return {p: data for p, data in found.items() if p not in secret}, [Left(p, selection.MAYBE_SECRET) for p in secret]


def _known_keys(now: InstalledState) -> dict[str, bytes]:
    """The keys in apt's directories; those elsewhere are files like any other."""
    return {path: data for path, data in now.own.keys.items() if is_key(path)}


def _is_public_key(data: bytes) -> bool:
    """Whether it begins like a transferable public key: RFC 9580, packet tag 6 in the old or the new format."""
    return data.startswith(b"-----BEGIN PGP PUBLIC KEY") or data[:1] in (b"\x98", b"\x99", b"\x9a", b"\xc6")


def _files(
    environment: Environment, found: Difference, now: InstalledState, record: Record | None
) -> tuple[dict[str, AddedFile], list[Left]]:
    files = {
        path: file for path, file in (record.manifest.files if record else {}).items() if _stays(path, now, record)
    }
    carried = {
        *files,
        *now.own.sources,
        *now.host.sources,
        *_known_keys(now),
        inspection.RECORD,
        policy.VARIABLES_INSIDE,
        os.path.dirname(inspection.RECORD),
    }
    packages = {change.name for change in found.packages}
    scripts = [c for c in found.changes if c.path.startswith(f"{dpkg.INFO}/") and c.path.endswith(_SCRIPTS)]
    texts = _contents(environment, [c for c in scripts if c.new and c.package in packages], _SCRIPT_LIMIT)
    said = b"\n".join(texts.values()).decode("utf-8", "replace")
    selected = selection.select(found.changes, packages, carried, said)
    left = [*selected.left]
    contents = _contents(environment, selected.wanted)
    shipped = {path: md5 for package in now.own.packages.values() for path, md5 in package.conffiles.items()}
    modes = {change.path: change.new.mode for change in found.changes if change.new and change.type == "directory"}
    for change in selected.wanted:
        content = contents.get(change.path, b"")
        if change.package in packages and not _edited(change.path, content, shipped):
            continue
        if why := _unfit(change, content) or (selection.MAYBE_SECRET if _is_closed(change, modes) else ""):
            left.append(Left(change.path, why))
        else:
            files[change.path] = _file(change, content, now)
    return dict(sorted(files.items())), left


def _stays(path: str, now: InstalledState, record: Record | None) -> bool:
    """Whether a file of the last sync is unchanged."""
    if record is None:
        return False
    file = record.manifest.files[path]
    look = now.files.get(path)
    if file.source:
        return look is not None and look.digest == record.digests.get(path) and look.mode == file.mode
    return now.has(path, file)


def _edited(path: str, content: bytes, shipped: Mapping[str, str]) -> bool:
    """Whether a configuration file differs from that of its package."""
    return path in shipped and hashlib.md5(content, usedforsecurity=False).hexdigest() != shipped[path]


def _is_closed(change: Change, modes: Mapping[str, int]) -> bool:
    """Whether a directory above a file is not accessible to everybody; `modes` are those of the environment's own."""
    return change.type == "file" and any(not _mode_of(path, modes) & stat.S_IXOTH for path in ancestors(change.path))


def _mode_of(directory: str, modes: Mapping[str, int]) -> int:
    with contextlib.suppress(OSError):
        return modes[directory] if directory in modes else os.lstat(directory).st_mode
    return 0o777


def _unfit(change: Change, content: bytes) -> str:
    assert change.new is not None
    mode = 0o777 if change.type == "symlink" else change.new.mode
    return selection.unfit(change.path, content, mode, change.new.size)


def _file(change: Change, content: bytes, now: InstalledState) -> AddedFile:
    assert change.new is not None
    owner = "root:root" if now.single else now.own.name_of(change.new.uid, change.new.gid)
    if change.type == "symlink":
        return AddedFile(link=os.fsdecode(content), owner=owner)
    return AddedFile(content, mode=change.new.mode, owner=owner)


def _contents(
    environment: Environment, changes: Sequence[Change], limit: int = selection.TEXT_LIMIT + 1
) -> dict[str, bytes]:
    """The contents of these files, of longer ones only the beginning. Raises SysenvError."""
    layers, marks = environment.changes(), driver.of(environment).marks

    def inside() -> dict[str, bytes]:
        upper = Upper(layers, marks)
        return {change.path: _read(upper, change, limit) for change in changes}

    try:
        return namespace.look_inside(environment.id_map, inside, dict[str, bytes], "sysenv-ns-read")
    except OSError as error:
        raise SysenvError(f"{environment.name} cannot be read: {located(error)}") from error


def _read(upper: Upper, change: Change, limit: int) -> bytes:
    entry = upper.get(change.path)
    return (comparison.content(entry, limit) or b"") if entry and entry.kind == "file" else b""
