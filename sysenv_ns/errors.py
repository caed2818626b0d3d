"""The one error type that reaches a user; it knows nothing of how errors are printed."""

from __future__ import annotations

import errno

EXIT_FAILURE = 1
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class SysenvError(Exception):
    """One sentence saying what failed, a hint saying what to do, and the exit status.

    An `exit_status` of None leaves the choice to the command: 125 where the user's command was
    about to run, 1 everywhere else.
    """

    def __init__(self, message: str, hint: str = "", exit_status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_status = exit_status


class UnfitStore(SysenvError):
    """No driver that mounts an overlay can work with this store, whoever runs it."""


class NeedsRoot(SysenvError):
    """What was asked for can only be done by real root; the message says why.

    `remedy` is what would make it possible without root, where there is such a thing.
    """

    remedy = ""


def reason(error: OSError) -> str:
    """The reason of an OSError with its symbolic name, without the paths: `No space left on device (ENOSPC)`."""
    if error.errno is None:
        return str(error)
    name = errno.errorcode.get(error.errno, str(error.errno))
    return f"{error.strerror} ({name})"


def located(error: OSError) -> str:
    """The same with the path behind it, where there is one."""
    return f"{reason(error)} ({error.filename})" if error.filename else reason(error)
