"""Directories for PATH with a script for each program that an environment adds or changes; runs nothing.

Which programs these are, home/programs.py finds out. Here is told from outside whether anything has changed since: by
what an environment's changes have where programs lie.

Names are chosen by whoever has written into the environment: only those that are plain words to every shell get a
script.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from sysenv_ns.basics import opened
from sysenv_ns.environment import directory, wrappers
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.files import reader, replacement
from sysenv_ns.files.reader import Root
from sysenv_ns.host import services

DIRECTORIES = tuple(services.PATH_OF_ALL.split(":"))  # where programs lie
_ALTERNATIVES = "/etc/alternatives"  # links from there choose programs, update-alternatives(1)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@%:,-]*")
# On the host these are the host's: who asks for another identity means that machine, and this tool runs some of them.
_OF_THE_HOST = frozenset(
    {
        *("sudo", "sudoedit", "su", "doas", "pkexec", "runuser", "setpriv", "newuidmap", "newgidmap", "sysenv-ns"),
        *("passwd", "newgrp", "sg", "run0", "fuse-overlayfs", "skopeo", "less", "more", "pager"),
    }
)
_SIGNATURE = ".signature"  # no name of a program begins with a dot
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SCRIPT_LIMIT = 1 << 16  # bytes; longer is none of these


def place(store: Store, name: str) -> Path:
    """The directory for the environment of that name; it need not exist."""
    return store.holding(name).path / directory.SHIMS / name


def signature(store: Store, environment: Environment) -> bytes:
    """What is another one when the programs may be others, or the scripts. Raises OSError."""
    digest = hashlib.sha256(repr((wrappers.script(store, environment, ""), sys.version_info)).encode())
    for point, changes in environment.changes():
        with Root(changes) as root:
            for searched in (*DIRECTORIES, _ALTERNATIVES):
                if searched.startswith(f"{point}/"):
                    digest.update(repr((changes, searched, list(_seen(root, searched[len(point) :])))).encode())
    return digest.hexdigest().encode()


def _seen(root: Root, path: str) -> Iterator[tuple[str, int, int, int]]:
    """The entries of a directory, each with what another file or other permissions in its place would change.

    For one that root of the environment keeps to itself, that alone.
    """
    try:
        descriptor = root.directory(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield "", error.errno or 0, 0, 0
        return
    with opened(descriptor):
        for name in sorted(os.listdir(descriptor)):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                yield name, found.st_mode, found.st_ino, found.st_mtime_ns


def is_current(store: Store, name: str, wanted: bytes) -> bool:
    """Whether the directory is there, as it was made for this signature. Raises OSError."""
    return reader.get(place(store, name) / _SIGNATURE, len(wanted)) == wanted


def write(store: Store, environment: Environment, programs: Mapping[str, str], current: bytes) -> None:
    """Make the directory one with these programs, by the path that each has inside. Raises OSError."""
    path = place(store, environment.name)
    mode = stat.S_IMODE(store.path.stat().st_mode)  # who may read what root keeps, the directory above it says
    for part in (path.parent, path):
        with contextlib.suppress(FileExistsError):
            part.mkdir(mode=mode)
    scripts = {
        name: wrappers.script(store, environment, target, in_any=True)
        for name, target in programs.items()
        if _NAME.fullmatch(name) and name not in _OF_THE_HOST
    }
    with opened(os.open(path, _DIRECTORY)) as descriptor:
        for name in set(os.listdir(descriptor)) - {*scripts, _SIGNATURE}:
            os.unlink(name, dir_fd=descriptor)
        for name, script in scripts.items():
            if _content(descriptor, name) != script:
                _replace(descriptor, name, script, 0o755)
        _replace(descriptor, _SIGNATURE, current, 0o644)  # last: till then the next call does it again


def remove(store: Store, name: str) -> None:
    """Delete the directory. Raises OSError."""
    path = place(store, name)
    try:
        descriptor = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    with opened(descriptor):
        for entry in os.listdir(descriptor):
            os.unlink(entry, dir_fd=descriptor)
    path.rmdir()


def _content(parent: int, name: str) -> bytes | None:
    try:
        return reader.read(name, _SCRIPT_LIMIT, dir_fd=parent)
    except OSError:
        return None


def _replace(parent: int, name: str, content: bytes, mode: int) -> None:
    """At once, so that nobody executes a part of it."""
    replacement.replace_at(parent, name, f".{name}.new", content, mode, durable=False)
