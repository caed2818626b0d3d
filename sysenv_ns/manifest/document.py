"""PURE: the content of a sysenv.toml, as data; knows nothing of its text (parser.py, writer.py)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from sysenv_ns import policy

BASE = "from"  # the key for Manifest.base
LISTS = ("architectures", "packages", "versions", "removed", "held", "debconf")  # keys with lists of texts
SOURCES = "/etc/apt/sources.list.d"
SOURCES_LIST = "/etc/apt/sources.list"
KEYS = ("/etc/apt/keyrings", "/etc/apt/trusted.gpg.d", "/usr/share/keyrings")
FILE_LIMIT = 256 << 20  # bytes of the files that are kept beside a manifest, together
KEY_SUFFIXES = (".asc", ".gpg", ".pgp")


@dataclass(frozen=True)
class AddedFile:
    """A file to add: its content, or the target of a symbolic link; `source`: its content is beside the manifest."""

    content: bytes = b""
    link: str | None = None
    mode: int = 0o644
    owner: str = "root:root"
    source: str = ""


@dataclass(frozen=True)
class Script:
    """Lines for sh, and their name in messages."""

    run: str
    name: str = ""

    @property
    def title(self) -> str:
        """Its name, or its first words."""
        return self.name or next((line for line in self.run.splitlines() if line.strip()), "")


@dataclass(frozen=True)
class Manifest:
    """The content of a sysenv.toml."""

    name: str = ""
    base: str = ""  # the key `from`: what pull takes, where the environment begins; "": with the system
    release: str = ""
    architecture: str = ""
    architectures: tuple[str, ...] = ()  # foreign ones
    packages: tuple[str, ...] = ()  # NAME or NAME=VERSION
    versions: tuple[str, ...] = ()  # NAME=VERSION of what is there because others need it
    removed: tuple[str, ...] = ()  # packages of the system
    held: tuple[str, ...] = ()
    debconf: tuple[str, ...] = ()  # OWNER QUESTION TYPE VALUE, debconf-set-selections(1)
    env: Mapping[str, str] = field(default_factory=dict)  # variables of all sessions
    repositories: Mapping[str, str | None] = field(default_factory=dict)  # by path; None: the system's is taken away
    keys: Mapping[str, bytes] = field(default_factory=dict)  # by path
    files: Mapping[str, AddedFile] = field(default_factory=dict)  # by path
    scripts: tuple[Script, ...] = ()

    @property
    def placed(self) -> Mapping[str, AddedFile]:
        """All files that it puts into the environment: those it names, and the one with the variables."""
        if not self.env:
            return self.files
        text = json.dumps(dict(self.env), indent=1, ensure_ascii=False)
        return {**self.files, policy.VARIABLES_INSIDE: AddedFile(f"{text}\n".encode())}

    def digests(self) -> dict[str, str]:
        """The files that have their content beside the manifest, by path."""
        return {path: digest(file.content) for path, file in self.files.items() if file.source}


def is_key(path: str) -> bool:
    """Whether only a key can be at a path: other files below /etc/apt decide what apt runs."""
    return os.path.dirname(path) in KEYS and path.endswith(KEY_SUFFIXES)


def split(entry: str) -> tuple[str, str]:
    """The name and the version ("" for any) of NAME or NAME=VERSION."""
    name, _, version = entry.partition("=")
    return name, version


def digest(content: bytes) -> str:
    """A digest of a content, to compare files."""
    return hashlib.sha256(content).hexdigest()
