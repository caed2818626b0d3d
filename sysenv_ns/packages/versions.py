"""PURE: the order of versions of Debian packages, deb-version(7)."""

from __future__ import annotations

import re
from itertools import zip_longest

_Pair = tuple[tuple[int, ...], int]
_END: _Pair = ((0,), 0)
_PARTS = re.compile(r"(\D*)(\d*)")


def is_older(one: str, other: str) -> bool:
    """Whether one version comes before the other: by epoch, upstream version, revision."""
    (epoch, *parts), (other_epoch, *other_parts) = _split(one), _split(other)
    pairs: list[tuple[_Pair, _Pair]] = [(((), int(epoch)), ((), int(other_epoch)))]
    for part, other_part in zip(parts, other_parts, strict=True):
        pairs += zip_longest(_pairs(part), _pairs(other_part), fillvalue=_END)
    return next((first < second for first, second in pairs if first != second), False)


def _split(version: str) -> tuple[str, str, str]:
    epoch, _, rest = version.rpartition(":")
    upstream, dash, revision = rest.rpartition("-")
    return epoch if epoch.isdecimal() else "0", upstream if dash else rest, revision if dash else ""


def _pairs(text: str) -> list[_Pair]:
    """What is no number, and the number behind it: letters before all others, ~ before even the end."""
    found = (match.groups() for match in _PARTS.finditer(text))
    return [((*map(_order, letters), 0), int(digits or 0)) for letters, digits in found]


def _order(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isascii() and letter.isalpha() else ord(letter) + 256
