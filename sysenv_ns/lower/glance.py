"""Whether a base is as the host, seen by the supervisor of a session that will probably start its environment.

Next to Python and its modules this is the longest part of a start, which meanwhile imports and surveys. What was seen
counts for a moment only: a start may wait for a lock, and who changes the host is not to be overlooked.
"""

from __future__ import annotations

import time

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.host import signs
from sysenv_ns.lower import books
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sysenv_ns.host.signs import Signature
    from sysenv_ns.paths import Path

_MOMENT = 0.1  # seconds for which it counts
NOTHING = b"{}"  # what is sent where looking has failed


@dataclass(frozen=True)
class Glance:
    """What was seen until the time `at` (seconds of time.monotonic), and the signs of the host's programs before."""

    at: float
    signs: Mapping[str, Signature | None]
    unchanged: Mapping[str, int]  # the books that hold, by layer and tree, and the checksums of what these watch

    def is_fresh(self) -> bool:
        """Whether it counts, at this moment."""
        return time.monotonic() - self.at < _MOMENT

    def holds(self, layer: Path, tree: str, watched: str) -> bool:
        """Whether it was just seen that all is as this text says, which is what a tree's books watch."""
        return self.is_fresh() and self.unchanged.get(_key(layer, tree)) == books.checksum(watched)


def look(layers: Iterable[Path]) -> bytes:
    """Look at all trees of these layers of a base, of which some may be gone; what `read` reads."""
    before, unchanged = signs.of_programs(), {}
    for layer in layers:
        for tree, watched in books.watched(layer).items():
            if books.holds_still(watched):
                unchanged[_key(layer, tree)] = books.checksum(watched)
    return documents.json_of({"at": time.monotonic(), "signs": before, "unchanged": unchanged}).encode()


def read(data: bytes | None) -> Glance | None:
    """What the supervisor has sent; None if that is nothing, too much for one message, or too old."""
    if data is None:
        return None
    try:
        found = documents.mapping(documents.parse_json(data), "it")
        before, unchanged = (documents.field(found, key, documents.mapping) for key in ("signs", "unchanged"))
        glance = Glance(documents.field(found, "at", documents.number), before, unchanged)
    except ValueError:
        return None
    return glance if glance.is_fresh() else None


def _key(layer: Path, tree: str) -> str:
    return f"{layer}/{tree}"
