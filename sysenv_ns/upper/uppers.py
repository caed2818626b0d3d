"""Which directories of an environment hold its changes: upper/ those of /, mounts/SLUG/upper/ those of another disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from sysenv_ns.store import Environment

_MOUNTS = "mounts"


def slug(point: str) -> str:
    """A name without slashes for a mount point; `listed` knows the way back."""
    return point.strip("/").replace("%", "%25").replace("/", "%2F")


def directory(point: str) -> str:
    """The directory for an overlay over a further disk, below the environment's."""
    return f"{_MOUNTS}/{slug(point)}"


def upper(point: str) -> str:
    """Where the changes to what is mounted there are ("" is /), below the environment's directory."""
    return f"{directory(point)}/upper" if point else "upper"


def listed(environments: Iterable[Path]) -> dict[str, str]:
    """What `upper` gives, by mount point, for all that any of these directories of environments has changes of."""
    points = {"": None}
    for path in environments:
        with contextlib.suppress(FileNotFoundError):
            points |= dict.fromkeys(_point(name) for name in sorted(os.listdir(path / _MOUNTS)))
    return {point: upper(point) for point in points}


def _point(name: str) -> str:
    return f"/{name.replace('%2F', '/').replace('%25', '%')}"


def layers(environment: Environment, points: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """These mount points, or all, with the directories of its changes there, the frozen ones too, uppermost first."""
    places = listed(environment.uppers("")) if points is None else {point: upper(point) for point in points}
    return [(point, str(p)) for point, place in places.items() for p in environment.uppers(place) if p.is_dir()]
