"""What a child does in a test: it never comes back into pytest, and is not waited for without end."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

_LIMIT = 60  # seconds


def in_a_child(function: Callable[[], object]) -> int:
    """How a child ended that did this: its exit status, or the negative number of the signal that ended it.

    1 if the function failed; -SIGALRM if it took too long.
    """
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_LIMIT)
            function()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
