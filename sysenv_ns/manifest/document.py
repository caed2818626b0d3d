"""PURE: what a sysenv.toml says, as data; knows nothing of its text (parsing.py, writing.py)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

LISTS = ("architectures", "packages", "versions", "removed", "held", "debconf")  # keys with lists of texts
SOURCES = "/etc/apt/sources.list.d"
SOURCES_LIST = "/etc/apt/sources.list"
KEYS = ("/etc/apt/keyrings", "/etc/apt/trusted.gpg.d", "/usr/share/keyrings")
KEY_SUFFIXES = (".asc", ".gpg", ".pgp")


@dataclass(frozen=True)
class File:
    """A file to add: its content, or where a symbolic link leads; `source`: the content is kept beside the manifest."""

    content: bytes = b""
    link: str | None = None
    mode: int = 0o644
    owner: str = "root:root"
    source: str = ""


@dataclass(frozen=True)
class Script:
    """Lines for sh, and how they are called in messages."""

    run: str
    name: str = ""

    @property
    def title(self) -> str:
        """Its name, or how it begins."""
        return self.name or next((line for line in self.run.splitlines() if line.strip()), "")


@dataclass(frozen=True)
class Manifest:
    """All of a sysenv.toml."""

    name: str = ""
    release: str = ""
    architecture: str = ""
    architectures: tuple[str, ...] = ()  # foreign ones
    packages: tuple[str, ...] = ()  # NAME or NAME=VERSION
    versions: tuple[str, ...] = ()  # NAME=VERSION of what is there because others need it
    removed: tuple[str, ...] = ()  # packages of the system
    held: tuple[str, ...] = ()
    debconf: tuple[str, ...] = ()  # OWNER QUESTION TYPE VALUE, debconf-set-selections(1)
    repositories: Mapping[str, str | None] = field(default_factory=dict)  # by path; None: the system's is taken away
    keys: Mapping[str, bytes] = field(default_factory=dict)  # by path
    files: Mapping[str, File] = field(default_factory=dict)  # by path
    scripts: tuple[Script, ...] = ()

    def digests(self) -> dict[str, str]:
        """Of the files whose content is kept beside it, by path."""
        return {path: digest(file.content) for path, file in self.files.items() if file.source}


def is_key(path: str) -> bool:
    """Whether nothing but a key can be there: what else lies below /etc/apt decides what apt runs."""
    return os.path.dirname(path) in KEYS and path.endswith(KEY_SUFFIXES)


def split(entry: str) -> tuple[str, str]:
    """The name and the version ("" for any) of NAME or NAME=VERSION."""
    name, _, version = entry.partition("=")
    return name, version


def digest(content: bytes) -> str:
    """What tells whether a file has this content."""
    return hashlib.sha256(content).hexdigest()
