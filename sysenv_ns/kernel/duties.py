"""What the process that supervises a session does besides answering calls (supervision.py); it does nothing itself."""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import Protocol
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from sysenv_ns.kernel.answers import Serve


class Watch(Protocol):
    """Something else that the process watches, on the host's side, as long as it lives."""

    def open(self) -> int | None:
        """A descriptor that is readable when there is something to do; None for never. Raises OSError."""

    def handle(self) -> None:
        """Do it, quickly. Raises OSError."""


@dataclass(frozen=True)
class Duties:
    """What the process does besides answering calls.

    `changes`: the upper directory of the overlay over /, if changes are to survive a power cut. `watch` gives, in the
    process, what else it watches. `visitors` serves, in a process of its own, programs inside that run as the user
    (visits.py). `look`: what it does first of all, see `Supervisor.looked`.
    """

    changes: Path | None = None
    watch: Callable[[], Watch] | None = None
    visitors: Serve | None = None
    look: Callable[[], bytes] | None = None


NOTHING_ELSE = Duties()
