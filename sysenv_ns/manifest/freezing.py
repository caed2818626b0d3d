"""freeze: an environment as a manifest, and what of it no manifest carries; prints and changes nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sysenv_ns.diff import comparing, difference, patch
from sysenv_ns.diff.changes import Change, PackageChange
from sysenv_ns.diff.difference import Difference
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.kernel import namespace
from sysenv_ns.manifest import plans, selecting, state, syncing
from sysenv_ns.manifest.document import File, Manifest, is_key, split
from sysenv_ns.manifest.plans import Record
from sysenv_ns.manifest.selecting import MADE_BY_PACKAGES, Left
from sysenv_ns.manifest.state import State
from sysenv_ns.packages import dpkg
from sysenv_ns.store import Environment, Store
from sysenv_ns.upper import uppers, view
from sysenv_ns.upper.view import Upper

_SCRIPTS = (".config", ".preinst", ".postinst", ".prerm", ".postrm")
_SCRIPT_LIMIT = 1 << 20  # bytes
_TYPES = ("string", "boolean", "select", "multiselect")  # a text is shown, and has no answer


@dataclass(frozen=True)
class Frozen:
    """A manifest, and what it does not carry."""

    manifest: Manifest
    left: tuple[tuple[str, str], ...]

    def comments(self) -> Iterator[str]:
        """The lines about what is not carried."""
        made = [patch.quoted(what) for what, why in self.left if why == MADE_BY_PACKAGES]
        others = [(what, why) for what, why in self.left if why != MADE_BY_PACKAGES]
        if self.left:
            yield "Not carried:"
        yield from (f"  {patch.quoted(what)}: {why}" for what, why in others)
        if made:
            yield f"  {', '.join(made)}: {MADE_BY_PACKAGES}"


def freeze(store: Store, name: str, exact: bool) -> Frozen:
    """What a manifest says of an environment; `exact`: with all versions. Raises SysenvError."""
    found = difference.find(store, name)
    with store.lock(name):
        environment = store.load(name)
        record = plans.decode(state.record_of(environment))
        remembered = record.manifest if record else Manifest()
        now = state.read(environment, remembered.files, remembered.keys)
        syncing.require_dpkg(now.own)
        files, left = _files(environment, found, now, record)
    packages, versions = _packages(now, found.packages, remembered, exact)
    debconf, unanswered = _debconf(now, remembered)
    repositories, unreadable = _repositories(now)
    manifest = Manifest(
        name,
        syncing.release(),
        now.host.architecture if exact or any(":" in entry for entry in packages) else "",
        architectures=tuple(a for a in now.own.architectures if a not in now.host.architectures),
        packages=packages,
        versions=versions,
        removed=tuple(sorted(set(now.host.packages) - set(now.own.packages))),
        held=tuple(sorted(now.own.held - now.host.held)),
        debconf=debconf,
        repositories=repositories,
        keys={path: data for path, data in _keys(now).items() if now.host.keys.get(path) != data},
        files=files,
        scripts=remembered.scripts,
    )
    rest = [*left, *unanswered, *unreadable, *(() if exact else _versions_left(found.packages))]
    return Frozen(manifest, tuple((row.what, row.why) for row in rest))


def _packages(
    now: State, changed: Sequence[PackageChange], remembered: Manifest, exact: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that are asked for, and the versions of the others where these matter."""
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


def _versions_left(changed: Iterable[PackageChange]) -> list[Left]:
    return [Left(c.name, f"{c.kind}: {c.old} -> {c.new}; --exact writes versions") for c in changed if c.old and c.new]


def _debconf(now: State, remembered: Manifest) -> tuple[tuple[str, ...], list[Left]]:
    """The answers that are not the host's, and those of passwords, as far as they can be written."""
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
            left.append(Left(f"{answer.owner} {question}", "an answer of several lines"))
        else:
            found[question] = f"{answer.owner} {question} {answer.type} {answer.value}".strip()
    return tuple(sorted(found.values())), left


def _repositories(now: State) -> tuple[dict[str, str | None], list[Left]]:
    found: dict[str, str | None] = {}
    left = []
    for path in sorted({*now.own.sources, *now.host.sources}):
        content = now.own.sources.get(path)
        if content == now.host.sources.get(path):
            continue
        try:
            found[path] = None if content is None else content.decode()
        except UnicodeDecodeError:
            left.append(Left(path, "it is no text"))
    return found, left


def _keys(now: State) -> dict[str, bytes]:
    """Those of repositories that lie elsewhere are files as any other."""
    return {path: data for path, data in now.own.keys.items() if is_key(path)}


def _files(
    environment: Environment, found: Difference, now: State, record: Record | None
) -> tuple[dict[str, File], list[Left]]:
    files = {
        path: file for path, file in (record.manifest.files if record else {}).items() if _stays(path, now, record)
    }
    carried = {*files, *now.own.sources, *now.host.sources, *_keys(now), state.RECORD, os.path.dirname(state.RECORD)}
    packages = {change.name for change in found.packages}
    scripts = [c for c in found.changes if c.path.startswith(f"{dpkg.INFO}/") and c.path.endswith(_SCRIPTS)]
    texts = _contents(environment, [c for c in scripts if c.new and c.package in packages], _SCRIPT_LIMIT)
    said = b"\n".join(texts.values()).decode("utf-8", "replace")
    selection = selecting.select(found.changes, packages, carried, said)
    left = [*selection.left]
    contents = _contents(environment, selection.wanted)
    shipped = _shipped(now)
    for change in selection.wanted:
        content = contents.get(change.path, b"")
        if change.package in packages and not _edited(change.path, content, shipped):
            continue
        if why := _unfit(change, content):
            left.append(Left(change.path, why))
        else:
            files[change.path] = _file(change, content, now)
    return dict(sorted(files.items())), left


def _stays(path: str, now: State, record: Record | None) -> bool:
    """Whether a file of the last sync is as it was made then."""
    if record is None:
        return False
    file = record.manifest.files[path]
    look = now.files.get(path)
    if file.source:
        return look is not None and look.digest == record.digests.get(path) and look.mode == file.mode
    return now.has(path, file)


def _shipped(now: State) -> Mapping[str, str]:
    return {path: md5 for package in now.own.packages.values() for path, md5 in package.conffiles.items()}


def _edited(path: str, content: bytes, shipped: Mapping[str, str]) -> bool:
    """Whether a configuration file is another than that of its package."""
    return path in shipped and hashlib.md5(content, usedforsecurity=False).hexdigest() != shipped[path]


def _unfit(change: Change, content: bytes) -> str:
    assert change.new is not None
    mode = 0o777 if change.type == "symlink" else change.new.mode
    return selecting.unfit(change.path, content, mode, change.new.size)


def _file(change: Change, content: bytes, now: State) -> File:
    assert change.new is not None
    owner = "root:root" if now.single else now.own.name_of(change.new.uid, change.new.gid)
    if change.type == "symlink":
        return File(link=os.fsdecode(content), owner=owner)
    return File(content, mode=change.new.mode, owner=owner)


def _contents(
    environment: Environment, changes: Sequence[Change], limit: int = selecting.TEXT_LIMIT + 1
) -> dict[str, bytes]:
    """What these files hold, of longer ones only the beginning. Raises SysenvError."""
    layers, signs = uppers.layers(environment), view.signs(environment.driver)

    def inside() -> dict[str, str]:
        upper = Upper(layers, signs)
        return {change.path: _read(upper, change, limit) for change in changes}

    try:
        found = namespace.look_inside(environment.id_map, inside, "sysenv-ns-read")
    except OSError as error:
        raise SysenvError(f"{environment.name} cannot be read: {located(error)}") from error
    assert isinstance(found, dict)
    return {path: text.encode("latin-1") for path, text in found.items()}


def _read(upper: Upper, change: Change, limit: int) -> str:
    entry = upper.get(change.path)
    if entry is None or entry.kind != "file":
        return ""
    facts = comparing.facts_of(entry.status)
    content = comparing.content(entry.place, facts._replace(size=0), limit)
    return (content or b"").decode("latin-1")
