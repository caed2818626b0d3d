"""Reads what apt, dpkg and debconf have on both sides, the host's and an environment's, and files; changes nothing.

A process in a namespace of the environment's id map reads its side. Of what lies on the host's, the owner can be seen
outside only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sysenv_ns.diff import comparing
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.manifest.document import SOURCES, SOURCES_LIST, File, digest
from sysenv_ns.packages import debconf, dpkg, origin
from sysenv_ns.packages.dpkg import Package
from sysenv_ns.store import Environment
from sysenv_ns.upper import uppers, view
from sysenv_ns.upper.view import Own, Upper, View

RECORD = "/var/lib/sysenv-ns/manifest.json"  # what an environment was last made to match; in it, so that it goes along
KEYS = ("/etc/apt/keyrings", "/etc/apt/trusted.gpg.d")
_ANSWERS = debconf.QUESTIONS[0]  # without those to questions for passwords
_ACCOUNTS = ("/etc/passwd", "/etc/group")
_DATABASES = (dpkg.STATUS, dpkg.EXTENDED_STATES, dpkg.ARCH, _ANSWERS, debconf.TEMPLATES, *_ACCOUNTS)
_SIGNED_BY = re.compile(rb"(?im)^Signed-By:[ \t]*(/[^\s,]+)|[\[ ]signed-by=(/[^\s,\]]+)")
_PROCESS = "sysenv-ns-read"


@dataclass(frozen=True)
class Answer:
    """What debconf knows of a question."""

    owner: str
    type: str
    value: str
    default: str
    seen: bool = True  # it was answered, not only taken as answered


@dataclass(frozen=True)
class Side:
    """The databases of one side, and the files of apt's repositories and keys, by path."""

    databases: Mapping[str, bytes]
    sources: Mapping[str, bytes] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)

    def _read(self, path: str) -> bytes:
        return self.databases.get(path, b"")

    @cached_property
    def packages(self) -> dict[str, Package]:
        """The packages that are there, by name."""
        return {key: p for key, p in dpkg.parse_status(self._read(dpkg.STATUS)).items() if p.has_files}

    @cached_property
    def automatic(self) -> frozenset[str]:
        """Those that are there because others need them, by name."""
        return dpkg.automatic(self._read(dpkg.EXTENDED_STATES), self.packages)

    @cached_property
    def provided(self) -> dict[str, frozenset[str]]:
        """The packages by the virtual ones that they provide."""
        found: dict[str, set[str]] = {}
        for key, package in self.packages.items():
            for entry in package.field("Provides").split(","):
                found.setdefault(entry.split("(")[0].strip(), set()).add(key)
        return {name: frozenset(keys) for name, keys in found.items() if name}

    @cached_property
    def held(self) -> frozenset[str]:
        """Those that apt shall leave as they are."""
        return frozenset(key for key, package in self.packages.items() if package.status[0] == "hold")

    @cached_property
    def architecture(self) -> str:
        """The machine's own."""
        package = self.packages.get("dpkg")
        return package.field("Architecture") if package else ""

    @cached_property
    def architectures(self) -> tuple[str, ...]:
        """Foreign ones."""
        return tuple(a for a in self._read(dpkg.ARCH).decode().split() if a != self.architecture)

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """By question."""
        templates = {name: _fields(entry.text) for name, entry in debconf.parse(self._read(debconf.TEMPLATES)).items()}
        found = {}
        for name, entry in debconf.parse(self._read(_ANSWERS)).items():
            fields = _fields(entry.text)
            template = templates.get(fields.get("Template", ""), {})
            if entry.owners and "Value" in fields:
                kind, default = template.get("Type", ""), template.get("Default", "")
                seen = "seen" in fields.get("Flags", "")
                found[name] = Answer(min(entry.owners), kind, fields["Value"], default, seen)
        return found

    def name_of(self, uid: int, gid: int) -> str:
        """USER:GROUP, as numbers where there is no name."""
        users, groups = (self._accounts(path) for path in _ACCOUNTS)
        names = {number: name for name, number in reversed(users.items())}
        group_names = {number: name for name, number in reversed(groups.items())}
        return f"{names.get(uid, uid)}:{group_names.get(gid, gid)}"

    def numbers_of(self, owner: str) -> tuple[int, int] | None:
        """The numbers of USER:GROUP; None where one of them does not exist."""
        found = []
        for name, path in zip(owner.split(":"), _ACCOUNTS, strict=True):
            number = self._accounts(path).get(name, int(name) if name.isdecimal() else None)
            if number is None:
                return None
            found.append(number)
        return found[0], found[1]

    def _accounts(self, path: str) -> dict[str, int]:
        rows = (line.split(":") for line in self._read(path).decode("utf-8", "surrogateescape").splitlines())
        return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdecimal()}


def _fields(text: str) -> dict[str, str]:
    rows = (line.partition(":") for line in text.splitlines() if not line.startswith((" ", "\t")))
    return {name: value.strip() for name, _, value in rows}


@dataclass(frozen=True)
class Look:
    """What is at a path of the environment; owners as they are inside."""

    type: str  # changes.FileType
    digest: str = ""  # of a regular file
    link: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class State:
    """Both sides. `single`: nobody but root exists in the environment, so owners say nothing."""

    host: Side
    own: Side
    files: Mapping[str, Look] = field(default_factory=dict)  # those that were asked for and are there
    single: bool = False

    def has(self, path: str, file: File) -> bool:
        """Whether the environment has such a file."""
        look = self.files.get(path)
        if look is None:
            return False
        if not self.single and self.own.numbers_of(file.owner) != (look.uid, look.gid):
            return False
        if file.link is not None:
            return look.type == "symlink" and look.link == file.link
        return look.type == "file" and look.mode == file.mode and look.digest == digest(file.content)


def of_host(single: bool) -> State:
    """What a new environment would have."""
    host = _host()
    return State(host, host, single=single)


def host_file(path: str, id_map: IdMap | None) -> tuple[File, tuple[int, int]] | None:
    """A regular file or link of the host with the numbers of its owner inside; None when there is none."""
    try:
        status = os.lstat(path)
        owner = (id_map.uid_inside(status.st_uid), id_map.gid_inside(status.st_gid)) if id_map else None
        numbers = owner or (status.st_uid, status.st_gid)
        facts = comparing.facts_of(status)
        if facts.type == "symlink":
            return File(link=os.readlink(path)), numbers
        content = origin.content(path) if facts.type == "file" else None
    except OSError:
        return None
    return None if content is None else (File(content, mode=facts.mode), numbers)


def record_of(environment: Environment) -> bytes | None:
    """The file RECORD, whether the environment runs or not; None when there is none."""
    return origin.own_content(environment, RECORD)


def read(environment: Environment, paths: Iterable[str] = (), keys: Iterable[str] = ()) -> State:
    """Both sides, and what is at these paths; keys lie in several places. Its lock must be held. Raises SysenvError."""
    layers, signs = uppers.layers(environment), view.signs(environment.driver)
    host = _host()
    wanted, wanted_keys = list(paths), [*keys, *host.keys]

    def inside() -> object:
        return _look(Upper(layers, signs), wanted, wanted_keys)

    try:
        data = namespace.look_inside(environment.id_map, inside, _PROCESS)
    except OSError as error:
        raise SysenvError(f"{environment.name} cannot be read: {located(error)}") from error
    assert isinstance(data, dict)
    own = Side(*({path: _bytes(text) for path, text in part.items()} for part in data["side"]))
    # What the process inside may not read of the host has a stand-in, or is empty.
    own = replace(own, databases={path: own.databases.get(path, host.databases.get(path, b"")) for path in _DATABASES})
    host = replace(host, keys=_present({*host.keys, *own.keys, *wanted_keys}))
    files = {path: Look(*row) for path, row in data["files"].items()}
    files |= _of_host(data["below"], environment.id_map)
    single = environment.id_map is not None and environment.id_map.kind == "single"
    return State(host, own, files, single)


def _host() -> Side:
    databases = {path: origin.content(path) or b"" for path in _DATABASES}
    root = View("/")
    sources = _present(_source_paths(root.names(SOURCES)))
    found = (f"{directory}/{name}" for directory in KEYS for name in root.names(directory))
    keys = [*_signed_by(sources.values()), *found]
    return Side(databases, sources, _present(keys))


def _present(paths: Iterable[str]) -> dict[str, bytes]:
    return {path: data for path in sorted(paths) if (data := origin.content(path)) is not None}


def _source_paths(names: Iterable[str]) -> list[str]:
    found = sorted(f"{SOURCES}/{name}" for name in names if name.endswith((".list", ".sources")))
    return [SOURCES_LIST, *found]


def _signed_by(sources: Iterable[bytes]) -> list[str]:
    found = (match[1] or match[2] for content in sources for match in _SIGNED_BY.finditer(content))
    return sorted({os.fsdecode(path) for path in found})


def _look(upper: Upper, paths: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """In the child: the environment's side, as JSON takes it."""
    root = View("/")
    own = Own(upper, root)

    def read_all(paths: Iterable[str]) -> dict[str, str]:
        return {path: _text(data) for path in paths if (data := _content(own, path)) is not None}

    def names(directory: str) -> list[str]:
        return sorted({*root.names(directory), *upper.below(root.real(directory))})

    sources = read_all(_source_paths(names(SOURCES)))
    signing = _signed_by(map(_bytes, sources.values()))
    found = (f"{directory}/{name}" for directory in KEYS for name in names(directory))
    files, below = {}, {}
    for path in paths:
        real = comparing.real(path, own)
        entry = upper.get(real)
        if entry is not None and entry.kind != "whiteout":
            files[path] = _looked_at(entry.place)
        elif entry is None and not upper.covers(real):
            below[path] = real
    side = (read_all(_DATABASES), sources, read_all({*keys, *signing, *found}))
    return {"side": side, "files": files, "below": below}


def _content(own: Own, path: str) -> bytes | None:
    try:
        for _ in range(view.LINKS):
            target = own.link(path)
            if target is None:
                return own.read(path)
            path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    except PermissionError:  # the host's, and not for this user
        pass
    return None


def _looked_at(place: str) -> list[str | int]:
    facts = comparing.facts_of(os.lstat(place))
    content = comparing.content(place, facts, facts.size + 1) or b""
    rest = [facts.mode, facts.uid, facts.gid]
    if facts.type == "symlink":
        return [facts.type, "", os.fsdecode(content), *rest]
    return [facts.type, digest(content), "", *rest]


def _of_host(paths: Mapping[str, str], id_map: IdMap | None) -> dict[str, Look]:
    found = {}
    for path, real in paths.items():
        if file := host_file(real, id_map):
            content, numbers = file
            kind = "file" if content.link is None else "symlink"
            mode = content.mode if content.link is None else 0o777
            found[path] = Look(kind, digest(content.content), content.link or "", mode, *numbers)
        elif os.path.isdir(real):
            found[path] = Look("directory")
    return found


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
