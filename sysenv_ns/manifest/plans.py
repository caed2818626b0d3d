"""PURE: how an environment differs from a manifest, as actions; and what it was last synced from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sysenv_ns import decoding, documents
from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest import parser, writer
from sysenv_ns.manifest.document import AddedFile, Manifest, digest, split
from sysenv_ns.manifest.installed import InstalledState
from sysenv_ns.packages.dpkg import Package

Kind = Literal[
    "pull",
    "architecture",
    "no-architecture",
    "repository",
    "key",
    "answer",
    "install",
    "remove",
    "drop",
    "hold",
    "unhold",
    "file",
    "script",
]
_FORMAT = 1


@dataclass(frozen=True)
class Action:
    """One difference, and what to do about it. `value` is the wanted state; None: nothing of the environment's own."""

    kind: Kind
    subject: str  # a package, a path, a question ...
    value: bytes | AddedFile | None = None

    @property
    def ident(self) -> str:
        """An identity, the same for the same difference."""
        value = "" if self.value is None else digest(repr(self.value).encode())
        return f"{self.kind} {self.subject} {value}"


@dataclass(frozen=True)
class PulledBase:
    """What an environment had when it was pulled: a manifest that names it as its base leaves that alone."""

    reference: str
    packages: frozenset[str] = frozenset()  # that somebody had asked for, and that the host has not
    removed: frozenset[str] = frozenset()  # the host's
    held: frozenset[str] = frozenset()
    architectures: frozenset[str] = frozenset()
    repositories: frozenset[str] = frozenset()  # paths of files that are not as on the host


@dataclass(frozen=True)
class Record:
    """The record of what an environment was last synced from."""

    file: str  # where the manifest was
    manifest: Manifest  # without what is kept beside it
    digests: dict[str, str]
    known: frozenset[str] = frozenset()  # what differs nevertheless, as packages and scripts have made it so
    base: PulledBase | None = None  # None: it began with the system

    def is_of(self, file: str, manifest: Manifest) -> bool:
        """Whether the record is up to date for this manifest."""
        return self.file == file and self.says(manifest)

    def says(self, manifest: Manifest) -> bool:
        """Whether it is the same manifest."""
        return writer.render(self.manifest) == writer.render(manifest) and self.digests == manifest.digests()


_NO_BASE = PulledBase("")


def encode(file: str, manifest: Manifest, known: Iterable[str] = (), base: PulledBase | None = None) -> bytes:
    """The record in the form that is kept in the environment."""
    data = {
        "version": _FORMAT,
        "file": file,
        "manifest": writer.render(manifest),
        "digests": manifest.digests(),
        "known": sorted(known),
        "base": base,
    }
    return json.dumps(data, indent=1, default=documents.as_data).encode()


def decode(data: bytes | None) -> Record | None:
    """The record; None if there is no readable one."""
    try:
        found = documents.parse_json(data or b"")
        manifest = parser.parse(str(found["manifest"]).encode(), "what it was synced from")
        digests = {str(path): str(value) for path, value in found["digests"].items()}
        base = decoding.from_data(PulledBase, found["base"]) if found.get("base") else None
        return Record(str(found["file"]), manifest, digests, frozenset(map(str, found["known"])), base)
    except (ValueError, KeyError, TypeError, AttributeError, SysenvError):
        return None


def make(manifest: Manifest, state: InstalledState, record: Record | None) -> tuple[Action, ...]:
    """All actions, in a sensible order for readers. Scripts run when anything else changes."""
    base = record.base if record and manifest.base else None
    found = [*_differences(manifest, state, record, base or _NO_BASE)]
    known = record.known if record else frozenset()
    left = [action for action in found if action.ident not in known]
    if left or record is None or record.manifest.scripts != manifest.scripts:
        left += [Action("script", script.title, script.run.encode()) for script in manifest.scripts]
    return tuple(left)


def remaining(manifest: Manifest, state: InstalledState, base: PulledBase | None = None) -> tuple[Action, ...]:
    """What still differs after everything was done: packages and scripts have caused that."""
    return tuple(_differences(manifest, state, None, base or _NO_BASE))


def pulled(reference: str, state: InstalledState) -> Record:
    """The record of an environment that has just been pulled, and was not made to match anything yet."""
    own, host = state.own, state.host
    paths = {*own.sources, *host.sources}
    base = PulledBase(
        reference,
        packages=frozenset(manual(state)),
        removed=frozenset(set(host.packages) - set(own.packages)),
        held=own.held - host.held,
        architectures=frozenset(own.architectures) - {*host.architectures},
        repositories=frozenset(path for path in paths if own.sources.get(path) != host.sources.get(path)),
    )
    return Record("", Manifest(), {}, base=base)


def check_base(name: str, manifest: Manifest, record: Record | None) -> None:
    """Raise SysenvError where an environment began with something else than the manifest says."""
    began = record.base.reference if record and record.base else ""
    if manifest.base and manifest.base != began:
        raise SysenvError(
            f"{name} was not made from {manifest.base}" + (f", but from {began}" if began else ""),
            f"to begin again from there: sysenv-ns remove {name}, then sysenv-ns sync",
        )


def _differences(
    manifest: Manifest, state: InstalledState, record: Record | None, base: PulledBase
) -> Iterator[Action]:
    yield from _architectures(manifest, state, base)
    yield from _repositories(manifest, state, base)
    yield from _keys(manifest, state, record)
    yield from _answers(manifest, state)
    yield from _packages(manifest, state, base)
    yield from _holds(manifest, state, base)
    yield from _files(manifest, state, record)


def _architectures(manifest: Manifest, state: InstalledState, base: PulledBase) -> Iterator[Action]:
    own, wanted = state.own.architectures, manifest.architectures
    yield from (Action("architecture", name) for name in wanted if name not in own)
    others = {*wanted, *state.host.architectures, *base.architectures}
    surplus = (name for name in own if name not in others)
    yield from (Action("no-architecture", name) for name in surplus)


def _repositories(manifest: Manifest, state: InstalledState, base: PulledBase) -> Iterator[Action]:
    """Repositories that the manifest does not name become those of the host, or as it was pulled."""
    named = {path: None if text is None else text.encode() for path, text in manifest.repositories.items()}
    wanted: dict[str, bytes | None] = {**state.host.sources, **named}
    for path in sorted({*wanted, *state.own.sources} - (base.repositories - {*named})):
        if state.own.sources.get(path) != wanted.get(path):
            yield Action("repository", path, wanted.get(path))


def _keys(manifest: Manifest, state: InstalledState, record: Record | None) -> Iterator[Action]:
    """Keys that no manifest has named stay: packages bring some."""
    before = dict.fromkeys(record.manifest.keys if record else ())
    for path, content in {**before, **manifest.keys}.items():
        wanted = state.host.keys.get(path) if content is None else content
        if state.own.keys.get(path) != wanted:
            yield Action("key", path, wanted)


def _answers(manifest: Manifest, state: InstalledState) -> Iterator[Action]:
    for line in manifest.debconf:
        owner, question, _, *value = line.split(None, 3)
        answer = state.own.answers.get(question)
        if answer is None or answer.value != "".join(value):
            yield Action("answer", f"{owner} {question}", line.encode())


def _packages(manifest: Manifest, state: InstalledState, base: PulledBase) -> Iterator[Action]:
    own, host = state.own.packages, state.host.packages
    named = {split(entry)[0] for entry in manifest.packages}
    for entry in manifest.packages:
        name, version = split(entry)
        if not satisfied(name, version, state):
            yield Action("install", entry, b"")
    for entry in manifest.versions:
        name, version = split(entry)
        if name not in own or own[name].version != version:
            yield Action("install", entry, b"automatic" if name not in host and name not in named else b"")
    for name in sorted(set(host) - set(own) - {*manifest.removed} - base.removed - named):
        if not any(_excludes(host[name], other) or _excludes(other, host[name]) for other in own.values()):
            yield Action("install", name, b"automatic" if name in state.host.automatic else b"")
    yield from (Action("remove", name) for name in manifest.removed if name in own)
    wanted = named | {key for name in named for key in state.own.provided.get(name, ())}
    yield from (Action("drop", key) for key in manual(state) if key not in wanted | base.packages)


def manual(state: InstalledState) -> list[str]:
    """The manually installed packages that the host does not have."""
    return sorted(set(state.own.packages) - set(state.host.packages) - state.own.automatic)


def satisfied(name: str, version: str, state: InstalledState, automatic: bool = False) -> bool:
    """Whether a package is installed, manually or (`automatic`) for whatever reason."""
    package = state.own.packages.get(name)
    if package is None:
        return not version and name in state.own.provided
    asked_for = automatic or name in state.host.packages or name not in state.own.automatic
    return asked_for and version in ("", package.version)


def _excludes(package: Package, other: Package) -> bool:
    """Whether a package conflicts with the other one, in any version."""
    if package.name == other.name:
        return False
    relations = f"{package.field('Conflicts')},{package.field('Breaks')}"
    names = {re.split(r"[\s:(]", entry.strip())[0] for entry in relations.split(",")} - {""}
    return other.name in names or any(
        entry.split("(")[0].strip() in names for entry in other.field("Provides").split(",") if entry.strip()
    )


def _holds(manifest: Manifest, state: InstalledState, base: PulledBase) -> Iterator[Action]:
    wanted = {*manifest.held, *base.held}
    yield from (Action("hold", name) for name in manifest.held if name not in state.own.held)
    yield from (Action("unhold", name) for name in sorted(state.own.held - state.host.held - wanted))


def _files(manifest: Manifest, state: InstalledState, record: Record | None) -> Iterator[Action]:
    for path, file in manifest.placed.items():
        if not state.has(path, file):
            yield Action("file", path, file)
    # What a package has put below it cannot be brought back.
    surplus = (p for key, p in state.own.packages.items() if key not in state.host.packages)
    shipped = {path for package in surplus for path in package.conffiles} if record else ()
    for path in record.manifest.placed if record else ():
        if path not in manifest.placed and path in state.files and path not in shipped:
            yield Action("file", path)


def check_system(manifest: Manifest, release: str, architecture: str, force: bool) -> None:
    """Raise SysenvError if a manifest is for another system, unless `force` is given."""
    for what, wanted, here in (
        ("the release", manifest.release, release),
        ("the architecture", manifest.architecture, architecture),
    ):
        if wanted and wanted != here and not force:
            raise SysenvError(
                f"this sysenv.toml is for {what} {wanted}, this system is {here or 'another one'}",
                "--force uses it anyway: packages may be missing, or have other versions",
            )


def default_name(directory: str) -> str:
    """The name of an environment from the directory of the manifest; "" if that gives no valid one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(directory)).strip(".-")[:100]
