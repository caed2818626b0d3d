"""Where the layers of a base lie in its directory; opens and changes nothing."""

from __future__ import annotations

import os
import zlib

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.host.base_files import Addition
from sysenv_ns.host.layout import LayerPlan
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Sequence


RECORD = "own-record.json"


def fingerprint(value: object) -> str:
    """A name for a value. Not hashlib: its import takes longer than everything else that a start does here."""
    return f"{zlib.crc32(repr(value).encode()):08x}"


def own(base: Path, added: Sequence[Addition]) -> Path:
    """The layer with the environment's own additions."""
    return base / f"own-{fingerprint(added)}"


def current(base: Path, plan: LayerPlan) -> Path | None:
    """The newest layer that was made for a plan."""
    found = numbers(base, plan)
    return base / f"{plan.name}-{max(found)}" if found else None


def numbers(base: Path, plan: LayerPlan) -> list[int]:
    """The numbers of all layers that were made for a plan."""
    prefix = f"{plan.name}-"
    suffixes = [name[len(prefix) :] for name in os.listdir(base) if name.startswith(prefix)]
    return [int(suffix) for suffix in suffixes if suffix.isdecimal()]
