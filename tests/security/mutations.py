"""Documents that are a little wrong: seeded, so that a failure can be seen again."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

_JUNK: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1 << 31, 1 << 63, 1 << 70, 0.5, -1e300, [], {}, [[]], [None], {"": {}}, "", "x", "/"),
    *("x" * 5000, "\ud800", "\udcff", "a\0b", "../../etc/passwd", "/etc/shadow", "\x1b[2J", "\n", "full", "memory"),
)
# What is put in the place of some bytes.
_PIECES = (
    b"",
    b"\0",
    b"\xff",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"1" * 5000,
    b"1e999",
    b"NaN",
    b'"\\ud800"',
    b",",
    b"=",
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as what holds it and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def of_data(data: Any, chance: random.Random) -> Any:
    """A document with one to three places changed, taken away or added."""
    found = copy.deepcopy(data)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(found))
        if not places:
            return found
        holder, key = chance.choice(places)
        what = chance.randrange(4)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[chance.choice(["", "x", "\0", "name", "version"])] = holder[key]
        elif what == 2 and isinstance(holder, list):
            holder += holder * chance.randint(1, 5)
        else:
            holder[key] = copy.deepcopy(chance.choice(_JUNK))  # the next change may be one of it
    return found


def of_bytes(text: bytes, chance: random.Random) -> bytes:
    """A text that is cut off, or has something else in the place of a few bytes."""
    start = chance.randrange(len(text) + 1)
    if chance.random() < 0.2:
        return text[:start]
    return text[:start] + chance.choice(_PIECES) + text[start + chance.randrange(8) :]


def of_json(data: Any, count: int, seed: str) -> Iterator[bytes]:
    """So many texts that are nearly this document."""
    chance = random.Random(seed)
    text = json.dumps(data).encode()
    yield from (b"", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000, b"\xff" * 100)
    for number in range(count):
        yield of_bytes(text, chance) if number % 3 == 0 else json.dumps(of_data(data, chance)).encode()


def of_toml(text: bytes, count: int, seed: str) -> Iterator[bytes]:
    """The same for TOML, byte by byte."""
    chance = random.Random(seed)
    yield from (b"\xff", b"a = " + b"[" * 100_000, b"a" + b".a" * 50_000 + b" = 1", b"a = " + b"1" * 5000, b"\0")
    for _ in range(count):
        yield of_bytes(of_bytes(text, chance) if chance.random() < 0.3 else text, chance)
