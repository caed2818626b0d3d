"""PURE: what an environment differs in from a manifest, as actions; and what it was last made to match."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest import parsing, writing
from sysenv_ns.manifest.document import File, Manifest, digest, split
from sysenv_ns.manifest.state import State
from sysenv_ns.packages.dpkg import Package

Kind = Literal[
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
    """One difference, and what is done about it. `value` is what shall be there; None: nothing of the environment's."""

    kind: Kind
    subject: str  # a package, a path, a question ...
    value: bytes | File | None = None

    @property
    def ident(self) -> str:
        """The same for the same difference."""
        value = "" if self.value is None else digest(repr(self.value).encode())
        return f"{self.kind} {self.subject} {value}"


@dataclass(frozen=True)
class Record:
    """To what an environment was last made to match."""

    file: str  # where the manifest was
    manifest: Manifest  # without what is kept beside it
    digests: dict[str, str]
    known: frozenset[str] = frozenset()  # what differs nevertheless, as packages and scripts have made it so

    def is_of(self, file: str, manifest: Manifest) -> bool:
        """Whether there is nothing to be noted about this manifest."""
        return self.file == file and self.says(manifest)

    def says(self, manifest: Manifest) -> bool:
        """Whether it is the same manifest."""
        return writing.render(self.manifest) == writing.render(manifest) and self.digests == manifest.digests()


def encode(file: str, manifest: Manifest, known: Iterable[str] = ()) -> bytes:
    """The record as it is kept in the environment."""
    text = writing.render(manifest)
    data = {"version": _FORMAT, "file": file, "manifest": text, "digests": manifest.digests(), "known": sorted(known)}
    return json.dumps(data, indent=1).encode()


def decode(data: bytes | None) -> Record | None:
    """The record; None when there is none, or none that can be read."""
    try:
        found = json.loads(data or b"")
        manifest = parsing.parse(str(found["manifest"]).encode(), "what it was synced from")
        digests = {str(path): str(value) for path, value in found["digests"].items()}
        return Record(str(found["file"]), manifest, digests, frozenset(map(str, found["known"])))
    except (ValueError, KeyError, TypeError, AttributeError, SysenvError):
        return None


def make(manifest: Manifest, state: State, record: Record | None) -> tuple[Action, ...]:
    """All that is to be done, in an order that makes sense to a reader. Scripts run when anything else changes."""
    found = [*_differences(manifest, state, record)]
    known = record.known if record else frozenset()
    left = [action for action in found if action.ident not in known]
    if left or record is None or record.manifest.scripts != manifest.scripts:
        left += [Action("script", script.title, script.run.encode()) for script in manifest.scripts]
    return tuple(left)


def remaining(manifest: Manifest, state: State) -> tuple[Action, ...]:
    """What still differs after all was done: packages and scripts have made it so."""
    return tuple(_differences(manifest, state, None))


def _differences(manifest: Manifest, state: State, record: Record | None) -> Iterator[Action]:
    yield from _architectures(manifest, state)
    yield from _repositories(manifest, state)
    yield from _keys(manifest, state, record)
    yield from _answers(manifest, state)
    yield from _packages(manifest, state)
    yield from _holds(manifest, state)
    yield from _files(manifest, state, record)


def _architectures(manifest: Manifest, state: State) -> Iterator[Action]:
    own, wanted = state.own.architectures, manifest.architectures
    yield from (Action("architecture", name) for name in wanted if name not in own)
    surplus = (name for name in own if name not in wanted and name not in state.host.architectures)
    yield from (Action("no-architecture", name) for name in surplus)


def _repositories(manifest: Manifest, state: State) -> Iterator[Action]:
    """What the manifest does not name is as on the host."""
    named = {path: None if text is None else text.encode() for path, text in manifest.repositories.items()}
    wanted: dict[str, bytes | None] = {**state.host.sources, **named}
    for path in sorted({*wanted, *state.own.sources}):
        if state.own.sources.get(path) != wanted.get(path):
            yield Action("repository", path, wanted.get(path))


def _keys(manifest: Manifest, state: State, record: Record | None) -> Iterator[Action]:
    """Others than those that a manifest has named stay: packages bring some."""
    before = dict.fromkeys(record.manifest.keys if record else ())
    for path, content in {**before, **manifest.keys}.items():
        wanted = state.host.keys.get(path) if content is None else content
        if state.own.keys.get(path) != wanted:
            yield Action("key", path, wanted)


def _answers(manifest: Manifest, state: State) -> Iterator[Action]:
    for line in manifest.debconf:
        owner, question, _, *value = line.split(None, 3)
        answer = state.own.answers.get(question)
        if answer is None or answer.value != "".join(value):
            yield Action("answer", f"{owner} {question}", line.encode())


def _packages(manifest: Manifest, state: State) -> Iterator[Action]:
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
    for name in sorted(set(host) - set(own) - {*manifest.removed} - named):
        if not any(_excludes(host[name], other) or _excludes(other, host[name]) for other in own.values()):
            yield Action("install", name, b"automatic" if name in state.host.automatic else b"")
    yield from (Action("remove", name) for name in manifest.removed if name in own)
    wanted = named | {key for name in named for key in state.own.provided.get(name, ())}
    yield from (Action("drop", key) for key in manual(state) if key not in wanted)


def manual(state: State) -> list[str]:
    """The packages that somebody has asked for, and that the host has not."""
    return sorted(set(state.own.packages) - set(state.host.packages) - state.own.automatic)


def satisfied(name: str, version: str, state: State, automatic: bool = False) -> bool:
    """Whether a package is there, and because somebody has asked for it, or (`automatic`) for whatever reason."""
    package = state.own.packages.get(name)
    if package is None:
        return not version and name in state.own.provided
    asked_for = automatic or name in state.host.packages or name not in state.own.automatic
    return asked_for and version in ("", package.version)


def _excludes(package: Package, other: Package) -> bool:
    """Whether a package does not want the other one beside it, in whatever version."""
    if package.name == other.name:
        return False
    relations = f"{package.field('Conflicts')},{package.field('Breaks')}"
    names = {re.split(r"[\s:(]", entry.strip())[0] for entry in relations.split(",")} - {""}
    return other.name in names or any(
        entry.split("(")[0].strip() in names for entry in other.field("Provides").split(",") if entry.strip()
    )


def _holds(manifest: Manifest, state: State) -> Iterator[Action]:
    wanted = {*manifest.held}
    yield from (Action("hold", name) for name in manifest.held if name not in state.own.held)
    yield from (Action("unhold", name) for name in sorted(state.own.held - state.host.held - wanted))


def _files(manifest: Manifest, state: State, record: Record | None) -> Iterator[Action]:
    for path, file in manifest.files.items():
        if not state.has(path, file):
            yield Action("file", path, file)
    # What a package has put below it cannot be brought back.
    surplus = (p for key, p in state.own.packages.items() if key not in state.host.packages)
    shipped = {path for package in surplus for path in package.conffiles} if record else ()
    for path in record.manifest.files if record else ():
        if path not in manifest.files and path in state.files and path not in shipped:
            yield Action("file", path)


def check_system(manifest: Manifest, release: str, architecture: str, force: bool) -> None:
    """Raise SysenvError where a manifest is of another system, unless it shall be used nevertheless."""
    for what, wanted, here in (
        ("the release", manifest.release, release),
        ("the architecture", manifest.architecture, architecture),
    ):
        if wanted and wanted != here and not force:
            raise SysenvError(
                f"this sysenv.toml is for {what} {wanted}, this system is {here or 'another one'}",
                "--force uses it nevertheless: packages may be missing, or have other versions",
            )


def release_of(os_release: str) -> str:
    """The release as a manifest names it, from the text of os-release(5): debian/bookworm."""
    rows = (line.partition("=") for line in os_release.splitlines())
    fields = {name.strip(): value.strip().strip("\"'") for name, _, value in rows}
    version = fields.get("VERSION_CODENAME") or fields.get("VERSION_ID", "")
    return "/".join(part for part in (fields.get("ID", "linux"), version) if part)


def default_name(directory: str) -> str:
    """The name of an environment after the directory that the manifest lies in; "" where none can be made of it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(directory)).strip(".-")[:100]
