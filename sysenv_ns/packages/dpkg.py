"""PURE: dpkg's files, parsed and written back; untouched parts stay byte by byte the same. Reads and runs nothing.

Formats: deb822(5), dpkg(1), update-alternatives(1); the names of info files are those of format 1 (lib/dpkg/db-fsys-*).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import cache, cached_property, lru_cache

from sysenv_ns.records import dataclass, replace

ADMIN = "/var/lib/dpkg"
STATUS = f"{ADMIN}/status"
INFO = f"{ADMIN}/info"
ALTERNATIVES = f"{ADMIN}/alternatives"
DIVERSIONS = f"{ADMIN}/diversions"
STATOVERRIDE = f"{ADMIN}/statoverride"
ARCH = f"{ADMIN}/arch"
TRIGGERS = f"{ADMIN}/triggers"
EXTENDED_STATES = "/var/lib/apt/extended_states"

# deb-control(5), deb-version(7); not NAME-, which apt takes as a removal.
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](:[a-z0-9-]+)?")
VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")

# States of which dpkg says that the package is whole; every other one is for `dpkg --audit`.
_SOUND = ("installed", "config-files")
_LOCAL = ":"  # the owner of an administrator's diversion
_BLANK = re.compile(rb"\n(?:[ \t]*\n)+")


@dataclass(frozen=True)
class Package:
    """One paragraph of the status file."""

    key: str  # its name, with the architecture where that is not the machine's own
    paragraph: bytes

    def field(self, name: str) -> str:
        """The value of a field, or "" when it is not there."""
        return _field(self.paragraph, name)

    @cached_property
    def name(self) -> str:
        """Its name alone."""
        return self.field("Package")

    @cached_property
    def version(self) -> str:
        """Its version; "" when it has none."""
        return self.field("Version")

    @cached_property
    def status(self) -> tuple[str, str, str]:
        """What is wanted (install, hold ...), the flag (ok, reinstreq), and the state (installed ...)."""
        want, flag, state = (self.field("Status").split() + [""] * 3)[:3]
        return want, flag, state

    @property
    def has_files(self) -> bool:
        """Whether its files are there: unpacked at least."""
        return self.status[2] != "config-files"

    @property
    def sound(self) -> bool:
        """Whether dpkg would not complain about its state."""
        return self.status[1] == "ok" and self.status[2] in _SOUND

    @cached_property
    def stem(self) -> str:
        """What the names of its info files begin with."""
        same = self.field("Multi-Arch") == "same"
        return f"{self.name}:{self.field('Architecture')}" if same else self.name

    @cached_property
    def conffiles(self) -> dict[str, str]:
        """The checksums with which its configuration files were shipped, by path; obsolete ones left out."""
        rows = (line.split() for line in self.field("Conffiles").splitlines())
        return {row[0]: row[1] for row in rows if len(row) == 2 and is_path(row[0])}

    def wanted(self, want: str) -> Package:
        """The same package with another selection."""
        line = f"Status: {' '.join((want, *self.status[1:]))}".encode()
        return replace(self, paragraph=re.sub(rb"(?m)^Status:.*$", lambda _: line, self.paragraph, count=1))


def is_path(text: str) -> bool:
    """Whether it is a path as dpkg writes them. Another one, with `..` for example, could lead out of a root."""
    # Of a hundred thousand paths nearly none is one that normpath could change.
    is_plain = "/." not in text and "//" not in text and not text.endswith("/")
    return (
        text.startswith("/") and text[1:2] != "/" and "\0" not in text and (is_plain or os.path.normpath(text) == text)
    )


def _field(paragraph: bytes, name: str) -> str:
    match = _pattern(name).search(paragraph)
    return match[1].decode("utf-8", "surrogateescape").strip() if match else ""


@cache  # thousands of paragraphs are asked for a few fields: to escape a name takes longer than to search for it
def _pattern(name: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?mi)^%s:[ \t]*(.*(?:\n[ \t].*)*)" % re.escape(name.encode()))


def paragraphs(data: bytes) -> list[bytes]:
    """The paragraphs of a file, each with its last newline and without the empty line behind it."""
    return [text.strip(b"\n") + b"\n" for text in _BLANK.split(data) if text.strip()]


def join(parts: Iterable[bytes]) -> bytes:
    """The file made of these paragraphs."""
    return b"".join(part + b"\n" for part in parts)


def parse_status(data: bytes) -> dict[str, Package]:
    """The packages of a status file in its order; an entry that says that there is no such package is none.

    Nor is one that cannot be a package's, as names of files are made of it.
    """
    return dict(_parsed(data))


@lru_cache(maxsize=3)  # each side of a merge is asked for several times
def _parsed(data: bytes) -> Mapping[str, Package]:
    found = paragraphs(data)
    return _packages(found, _native(found))


def parse_differing(one: bytes, other: bytes) -> tuple[dict[str, Package], dict[str, Package]]:
    """Two status files as parse_status has them, but for the packages of which both say the same: nearly all."""
    sides = [_pieces(data) for data in (one, other)]
    natives = [_native(_some(found, b"Package: dpkg\n")) for found in sides]
    # Where it is not the same machine's, or nobody knows which, the same paragraph can be about another package.
    same = {*sides[0]} & {*sides[1]} if natives[0] == natives[1] != "" else frozenset()
    first, second = ([p for piece in found if piece not in same for p in paragraphs(piece)] for found in sides)
    return _packages(first, natives[0]), _packages(second, natives[1])


def _pieces(data: bytes) -> list[bytes]:
    """One or more paragraphs each, which is found out in a hundredth of the time that parsing them takes."""
    return data.split(b"\n\n")


def _some(pieces: Iterable[bytes], text: bytes) -> Iterator[bytes]:
    """The paragraphs of those pieces that have a text somewhere."""
    return (paragraph for piece in pieces if text in piece for paragraph in paragraphs(piece))


def _native(found: Iterable[bytes]) -> str:
    """The machine's architecture, which is dpkg's own; "" where it is not there."""
    own = (_field(paragraph, "Architecture") for paragraph in found if paragraph.startswith(b"Package: dpkg\n"))
    return next(own, "")


def _packages(found: Iterable[bytes], native: str) -> dict[str, Package]:
    packages = {}
    for paragraph in found:
        name, architecture = _field(paragraph, "Package"), _field(paragraph, "Architecture")
        own = architecture in ("all", native, "") or not native
        key = name if own else f"{name}:{architecture}"
        package = Package(key, paragraph)
        if package.status[2] != "not-installed" and "/" not in name + architecture:
            packages[key] = package
    return packages


def conffiles(data: bytes) -> set[str]:
    """The paths of all configuration files that a status file names; obsolete ones left out."""
    some = _some(_pieces(data), b"\nConffiles:")
    return {path for paragraph in some for path in Package("", paragraph).conffiles}


def parse_states(data: bytes) -> dict[str, bytes]:
    """The paragraphs of apt's extended_states by package and architecture."""
    return {f"{_field(p, 'Package')}:{_field(p, 'Architecture')}": p for p in paragraphs(data)}


def automatic(extended_states: bytes, packages: Mapping[str, Package]) -> frozenset[str]:
    """Those of these packages, by their keys, that are there because others need them."""
    found = [p for p in paragraphs(extended_states) if _field(p, "Auto-Installed") == "1"]
    marked = {(_field(p, "Package"), _field(p, "Architecture")) for p in found}
    names = {name for name, _ in marked}  # apt notes those for all architectures with the machine's own
    return frozenset(
        key
        for key, package in packages.items()
        if (package.name, package.field("Architecture")) in marked
        or (package.field("Architecture") == "all" and package.name in names)
    )


def version_of(package: Package | None) -> str:
    """The version of a package that is there, unpacked at least; else ""."""
    return package.version if package is not None and package.has_files else ""


@dataclass(frozen=True)
class Diversion:
    """A path that all packages but `owner` find under another name."""

    path: str
    target: str
    owner: str

    @property
    def local(self) -> bool:
        """Whether an administrator made it, not a package."""
        return self.owner == _LOCAL


def parse_diversions(data: bytes) -> dict[str, Diversion]:
    """The diversions by path; three lines each."""
    lines = os.fsdecode(data).splitlines()
    found = (Diversion(*three) for three in zip(lines[::3], lines[1::3], lines[2::3], strict=False))
    return {d.path: d for d in found if is_path(d.path) and is_path(d.target)}


def format_diversions(diversions: Iterable[Diversion]) -> bytes:
    """The file."""
    return os.fsencode("".join(f"{d.path}\n{d.target}\n{d.owner}\n" for d in diversions))


def diverted(path: str, package: str, diversions: Mapping[str, Diversion]) -> str:
    """Where a package's file really is."""
    found = diversions.get(path)
    return path if found is None or found.owner == package else found.target


@dataclass(frozen=True)
class Alternatives:
    """One group of update-alternatives."""

    status: str  # auto or manual
    link: str
    slaves: Mapping[str, str]  # their links by name
    choices: Mapping[str, tuple[str, Mapping[str, str]]]  # by path: priority, and the slaves' paths by name


def parse_alternatives(data: bytes) -> Alternatives:
    """A group's file. Raises ValueError for one that is damaged."""
    lines = iter(os.fsdecode(data).split("\n"))
    try:
        status, link = next(lines), next(lines)
        slaves = {}
        while name := next(lines):
            slaves[name] = next(lines)
        choices = {}
        while path := next(lines):
            priority = next(lines)
            paths = {name: next(lines) for name in slaves}
            choices[path] = (priority, {name: target for name, target in paths.items() if target})
    except StopIteration:
        raise ValueError("it ends too early") from None
    return Alternatives(status, link, slaves, choices)


def format_alternatives(group: Alternatives) -> bytes:
    """The file of a group, with its parts in the order that update-alternatives gives them."""
    lines = [group.status, group.link]
    names = sorted(group.slaves)
    for name in names:
        lines += [name, group.slaves[name]]
    lines.append("")
    for path in sorted(group.choices):
        priority, paths = group.choices[path]
        lines += [path, priority, *(paths.get(name, "") for name in names)]
    return os.fsencode("\n".join([*lines, "", ""]))


def parse_list(data: bytes) -> list[str]:
    """The paths of a package's list."""
    return [line for line in os.fsdecode(data).split("\n") if is_path(line)]


class Listed:
    """The same by directories, which are far fewer: most of the paths need not even be looked at."""

    def __init__(self, data: bytes) -> None:
        self._lines = os.fsdecode(data).split("\n")
        self._holders = [line[: line.rfind("/")] for line in self._lines]
        # "" is /. Of thousands nearly all need no second look.
        found = {*self._holders}
        doubtful = {d for d in found if d[:1] != "/" or "/." in d or "//" in d or "\0" in d}
        self.directories = found - {d for d in doubtful if d and not is_path(d)}

    def paths(self, directories: AbstractSet[str], single: AbstractSet[str]) -> list[str]:
        """Those in these directories, and single ones."""
        rows = zip(self._lines, self._holders, strict=True)
        return [line for line, holder in rows if (holder in directories or line in single) and is_path(line)]


def parse_checksums(data: bytes) -> dict[str, str]:
    """The checksums of md5sums files by path with its leading slash."""
    lines = os.fsdecode(data).split("\n")
    return {f"/{line[34:].removeprefix('./')}": line[:32] for line in lines if len(line) > 34}


def trigger_files(interests: Mapping[str, str]) -> dict[str, bytes]:
    """The files of triggers/ by name, from the text of each package's triggers file (deb-triggers(5)) by stem."""
    files: dict[str, list[str]] = {"File": []}
    for stem, text in interests.items():
        for line in text.splitlines():
            directive, _, trigger = line.partition("#")[0].strip().partition(" ")
            if not directive.startswith("interest"):
                continue
            trigger = trigger.strip()
            who = f"{stem}/noawait" if directive.endswith("-noawait") else stem
            if trigger.startswith("/"):
                files["File"].append(f"{trigger} {who}\n")
            elif "/" not in trigger:
                files.setdefault(trigger, []).append(f"{who}\n")
    return {name: os.fsencode("".join(lines)) for name, lines in files.items()}
