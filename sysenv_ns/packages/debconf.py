"""PURE: debconf's databases, parsed, merged and written back; untouched parts stay byte by byte the same.

A paragraph for each question (in config.dat; those for a password in passwords.dat) and each template (templates.dat).
It is there as long as somebody owns it: packages own questions, and questions templates. Format: Debconf::Format::822.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from sysenv_ns.packages import merge
from sysenv_ns.records import dataclass

QUESTIONS = ("/var/cache/debconf/config.dat", "/var/cache/debconf/passwords.dat")
TEMPLATES = "/var/cache/debconf/templates.dat"

# Whether an owner is one afterwards, by whether it is one in the old, the new and the environment's own entry.
Owns = Callable[[str, bool, bool, bool], bool]

_OWNERS = re.compile(r"(?m)^Owners:.*$")


@dataclass(frozen=True)
class Question:
    """A question or template: its paragraph, in which the line of the owners is empty, and these."""

    text: str
    owners: frozenset[str]


def parse(data: bytes) -> dict[str, Question]:
    """The entries by name."""
    return dict(_parsed(data))


@lru_cache(maxsize=3)  # two of the three sides of a merge are mostly the same
def _parsed(data: bytes) -> Mapping[str, Question]:
    found = {}
    for part in re.split(r"\n{2,}", data.decode("utf-8", "surrogateescape").strip("\n")):
        first, line = re.match(r"Name: ?(.*)", part), _OWNERS.search(part)
        if first is not None:
            owners = line[0].partition(":")[2].replace(",", " ").split() if line else ()
            found[first[1]] = Question(_OWNERS.sub("Owners:", part), frozenset(owners))
    return found


def written(entries: Mapping[str, Question]) -> bytes:
    """The file, in debconf's order."""
    found = (_owned(entry) for _, entry in sorted(entries.items()))
    return "".join(f"{text}\n\n" for text in found).encode("utf-8", "surrogateescape")


def _owned(entry: Question) -> str:
    owners = f" {', '.join(sorted(entry.owners))}" if entry.owners else ""
    return _OWNERS.sub(lambda line: f"{line[0]}{owners}", entry.text, count=1)


def merged(
    old: Mapping[str, Question], new: Mapping[str, Question], own: Mapping[str, Question], owns: Owns
) -> dict[str, Question]:
    """Three-way by entry, and by owner."""
    found = {}
    for name in {**new, **own}:
        sides = (old.get(name), new.get(name), own.get(name))
        before = [side.owners if side else frozenset[str]() for side in sides]
        owners = frozenset(o for o in before[1] | before[2] if owns(o, o in before[0], o in before[1], o in before[2]))
        text = merge.pick(*(side.text if side else None for side in sides))
        if text is None and owners:  # one side has let go of it, but not everybody on the other
            text = next(side.text for side in sides[1:] if side)
        if text is not None and (owners or not before[1] | before[2]):
            found[name] = Question(text, owners)
    return found
