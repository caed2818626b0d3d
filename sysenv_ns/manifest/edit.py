"""PURE: the text of a sysenv.toml with other packages in it; comments, order and all else stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import tomlkit
from tomlkit.items import Array

from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest.document import split


def with_packages(text: str, entries: Sequence[str]) -> str:
    """The text in which these are packages, NAME or NAME=VERSION; what it says of them otherwise goes."""
    document = tomlkit.parse(text)
    packages = _list(document, "packages")
    for entry in entries:
        name, _ = split(entry)
        if entry not in packages:
            _take(packages, name)
            packages.append(entry)
        if "removed" in document:
            _take(_list(document, "removed"), name)
    return tomlkit.dumps(document)


def without_packages(text: str, names: Sequence[str]) -> str:
    """The text in which these are no packages, whatever their versions. Raises SysenvError for one that is none."""
    document = tomlkit.parse(text)
    packages = _list(document, "packages")
    for name in names:
        if not _take(packages, split(name)[0]):
            raise SysenvError(
                f"{name} is no package of the sysenv.toml",
                f'to have a package of this system gone, put it there: removed = ["{name}"]',
            )
    return tomlkit.dumps(document)


def _list(document: tomlkit.TOMLDocument, key: str) -> Array:
    if key not in document:
        document[key] = tomlkit.array()
    return cast(Array, document[key])


def _take(entries: Array, name: str) -> bool:
    """Take the entries of a package out; whether there were any."""
    found = [number for number, entry in enumerate(entries) if split(str(entry))[0] == name]
    for number in reversed(found):
        del entries[number]
    return bool(found)
