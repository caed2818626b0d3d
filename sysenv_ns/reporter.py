"""How the layers below the verbs report to the user, without knowing a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from sysenv_ns.records import dataclass

# To be told the part that is done, from 0 to 1.
Progress = Callable[[float], None]
ProgressBar = Callable[[], contextlib.AbstractContextManager[Progress]]
# Asks the user a question that is answered with yes or no.
Ask = Callable[[str], bool]


@dataclass(frozen=True)
class Reporter:
    """Notices, one line per operation for -v, a progress bar, and a question; None where nobody can be asked."""

    notice: Callable[[str], None]
    operation: Callable[[str], None]
    progress: ProgressBar
    ask: Ask | None = None
