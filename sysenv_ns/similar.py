"""PURE: which known word was probably meant by an unknown one; asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SLIP = 0.75  # of letters in common (difflib's ratio): `prj` for `proj`, `porj` too
_LIKE = 0.6  # difflib's own, for what is only suggested
_SEPARATORS = re.compile(r"[._-]+")
_PARTS = re.compile(r"[0-9]+|[^0-9._-]+")


def meant(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one is probably a slip of the keyboard for; None for a name of its own.

    What differs in its numbers, or in a part of its own (`web-1` and `web-2`, `app-dev` and `app-prod`), is meant.
    """
    slips = [other for other in known if other != name and _is_slip(name.casefold(), other.casefold())]
    return max(slips, key=lambda other: _ratio(name.casefold(), other.casefold()), default=None)


def like(word: str, known: Iterable[str]) -> list[str]:
    """The known words that look like this one, or that it begins; the most likely first."""
    from difflib import get_close_matches  # slow, and only for somebody who has mistyped

    words = list(known)
    close = get_close_matches(word.casefold(), words, cutoff=_LIKE)
    return list(dict.fromkeys([*close, *(other for other in words if word and other.startswith(word))]))


def _is_slip(name: str, other: str) -> bool:
    if _SEPARATORS.sub("", name) == _SEPARATORS.sub("", other):
        return True
    parts, others = _PARTS.findall(name), _PARTS.findall(other)
    return len(parts) == len(others) and all(map(_are_close, parts, others))


def _are_close(part: str, other: str) -> bool:
    if part.isdecimal() or other.isdecimal():
        return part == other
    return _ratio(part, other) >= _SLIP


def _ratio(word: str, other: str) -> float:
    from difflib import SequenceMatcher

    return SequenceMatcher(None, word, other).ratio()
