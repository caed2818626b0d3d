"""The one error type that reaches a user, and what is known of all others; does not print."""

from __future__ import annotations

import errno

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_FAILURE = 1
EXIT_TROUBLE = 2  # as of diff(1), where 1 means that there are differences
EXIT_INTERRUPTED = 130  # as shells say of SIGINT
EXIT_UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h: a fault of the tool's own
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
_FRAMES = 40  # that are told of one exception


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


class Unexpected(Exception):
    """An unforeseen exception in another process of the tool; `trace` is its traceback."""

    def __init__(self, kind: str, trace: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.trace = trace

    @classmethod
    def of(cls, error: BaseException) -> Unexpected:
        """An exception of this process, in the form for other processes and for reports."""
        return cls(error.kind if isinstance(error, Unexpected) else type(error).__name__, "\n".join(_trace(error)))


class UnfitStore(SysenvError):
    """No driver that mounts an overlay can work with this store, not even for root."""


class NameTaken(SysenvError):
    """The name for a new environment is taken; another process may have created it just now."""


class Declined(SysenvError):
    """The user's consent is needed, and was not given, or could not be asked for."""


class OutOfReach(SysenvError):
    """An environment runs, but no process of it can be joined."""


class NeedsRoot(SysenvError):
    """Only real root can do this; the message says why.

    `remedy` says what would make it possible without root, if anything. `arguments` are the part of a command that root
    still has to do; none: all of it.
    """

    remedy = ""
    arguments: tuple[str, ...] = ()


class Exhausted(SysenvError):
    """Something has run out, or a disk has failed: every other attempt, in whatever way, would fail too."""


_EXHAUSTED = frozenset(
    {
        *(errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),  # disks
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN),
    }
)


def is_exhausted(error: OSError) -> bool:
    """Whether an error says so: then trying another driver, or root, is of no use."""
    return error.errno in _EXHAUSTED


def reason(error: OSError) -> str:
    """The reason of an OSError with its symbolic name, without the paths: `No space left on device (ENOSPC)`."""
    if error.errno is None:
        return str(error)
    name = errno.errorcode.get(error.errno, str(error.errno))
    return f"{error.strerror} ({name})"


def located(error: OSError) -> str:
    """The same with the path behind it, where there is one."""
    return f"{reason(error)} ({quoted(str(error.filename))})" if error.filename else reason(error)


def _trace(error: BaseException | None) -> Iterator[str]:
    """Where an exception and its causes came from, as lines.

    The module traceback would read sources to show their lines: after the pivot these are the environment's files,
    and the import itself would be one.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield f"{type(error).__name__}: {error}"
        frames = []
        traceback = error.__traceback__
        while traceback is not None:
            code = traceback.tb_frame.f_code
            frames.append(f"  {code.co_filename}:{traceback.tb_lineno} {code.co_qualname}")
            traceback = traceback.tb_next
        yield from frames if len(frames) <= _FRAMES else (*frames[: _FRAMES // 2], "  ...", *frames[-_FRAMES // 2 :])
        if isinstance(error, Unexpected):
            yield from (f"  | {line}" for line in error.trace.split("\n"))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if error is not None:
            yield "after"
