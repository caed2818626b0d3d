"""How the layers below the verbs report to the user, without knowing a terminal."""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeAlias

# To be told the part that is done, from 0 to 1.
Progress: TypeAlias = "Callable[[float], None]"
ProgressBar: TypeAlias = "Callable[[], AbstractContextManager[Progress]]"
# Asks the user a question that is answered with yes or no.
Ask: TypeAlias = "Callable[[str], bool]"


def unseen(fraction: float) -> None:
    """The progress where nobody sees it: it need not be known."""


@dataclass(frozen=True)
class Reporter:
    """Notices, one line per operation for -v, a progress bar, and a question; None where nobody can be asked."""

    notice: Callable[[str], None]
    operation: Callable[[str], None]
    progress: ProgressBar
    ask: Ask | None = None
