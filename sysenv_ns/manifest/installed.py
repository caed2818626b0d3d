"""PURE: what apt, dpkg and debconf say on the host and in an environment, parsed when it is asked for.

inspection.py reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sysenv_ns import documents
from sysenv_ns.errors import SysenvError
from sysenv_ns.host import accounts
from sysenv_ns.host.accounts import Accounts
from sysenv_ns.manifest.document import AddedFile, digest
from sysenv_ns.packages import debconf, dpkg
from sysenv_ns.packages.dpkg import Package

_ANSWERS = debconf.QUESTIONS[0]  # without those to questions for passwords
DATABASES = (dpkg.STATUS, dpkg.EXTENDED_STATES, dpkg.ARCH, _ANSWERS, debconf.TEMPLATES, *accounts.PATHS)


@dataclass(frozen=True)
class Answer:
    """What debconf records about a question."""

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
    private: frozenset[str] = frozenset()  # those of them that not everybody may read

    def _read(self, path: str) -> bytes:
        return self.databases.get(path, b"")

    @cached_property
    def packages(self) -> dict[str, Package]:
        """The installed packages, by name."""
        return {key: p for key, p in dpkg.parse_status(self._read(dpkg.STATUS)).items() if p.has_files}

    @cached_property
    def automatic(self) -> frozenset[str]:
        """The automatically installed packages, by name."""
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
        """The packages on hold."""
        return frozenset(key for key, package in self.packages.items() if package.status[0] == "hold")

    @cached_property
    def architecture(self) -> str:
        """The native architecture."""
        package = self.packages.get("dpkg")
        return package.field("Architecture") if package else ""

    @cached_property
    def architectures(self) -> tuple[str, ...]:
        """The foreign architectures."""
        names = self._read(dpkg.ARCH).decode("utf-8", "surrogateescape").split()
        return tuple(name for name in names if name != self.architecture)

    @cached_property
    def answers(self) -> dict[str, Answer]:
        """The answers by question."""
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

    def require_dpkg(self) -> None:
        """Raise SysenvError on a system with another package manager."""
        if not self.packages:
            raise SysenvError("freeze and sync work with dpkg and apt only", "this system has neither")

    def name_of(self, uid: int, gid: int) -> str:
        """USER:GROUP, numbers if there is no name."""
        return f"{self._accounts.user(uid) or uid}:{self._accounts.group(gid) or gid}"

    def numbers_of(self, owner: str) -> tuple[int, int] | None:
        """The numbers of USER:GROUP; None if one of them does not exist."""
        user, _, group = owner.partition(":")
        uid = self._accounts.users.get(user, documents.decimal(user))
        gid = self._accounts.groups.get(group, documents.decimal(group))
        return None if uid is None or gid is None else (uid, gid)

    @cached_property
    def _accounts(self) -> Accounts:
        return accounts.parse(*(self._read(path) for path in accounts.PATHS))


def _fields(text: str) -> dict[str, str]:
    rows = (line.partition(":") for line in text.splitlines() if not line.startswith((" ", "\t")))
    return {name: value.strip() for name, _, value in rows}


@dataclass(frozen=True)
class Look:
    """The file at a path of the environment; owners as inside."""

    type: str  # changes.FileType
    digest: str = ""  # of a regular file
    link: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class InstalledState:
    """Both sides. `single`: only root exists in the environment, so owners mean nothing.

    The databases of the host's side are those that the environment began with: later changes of the host
    were not made for the environment; rebase brings them there.
    """

    host: Side
    own: Side
    files: Mapping[str, Look] = field(default_factory=dict)  # those that were asked for and are there
    single: bool = False

    def has(self, path: str, file: AddedFile) -> bool:
        """Whether the environment has such a file."""
        look = self.files.get(path)
        if look is None:
            return False
        if not self.single and self.own.numbers_of(file.owner) != (look.uid, look.gid):
            return False
        if file.link is not None:
            return look.type == "symlink" and look.link == file.link
        return look.type == "file" and look.mode == file.mode and look.digest == digest(file.content)
