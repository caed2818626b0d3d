"""Handles errors at the top: message, hint and exit status, and for an unforeseen error also a report."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import suppress
from sysenv_ns.environment.directory import store_location
from sysenv_ns.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_UNEXPECTED, SysenvError, Unexpected, reason
from sysenv_ns.kernel import remedies
from sysenv_ns.notices import failure, hint, notice, output_failure
from sysenv_ns.paths import Path
from sysenv_ns.text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from sysenv_ns.sudo import Caller

EXIT_BEFORE_COMMAND = 125  # of shell and exec, as with env(1): what fails is not the user's command


def described(error: SysenvError | OSError) -> SysenvError:
    """An error with its sentence."""
    if isinstance(error, SysenvError):
        return error
    if failed := output_failure():
        return failed
    what = quoted(str(error.filename)) if error.filename else "a system call"
    return SysenvError(f"{what}: {reason(error)}", remedies.storage(error, store_location()))


def guarded(action: Callable[[], int | None], default: int) -> int | None:
    """What an action returns, or the exit status of its failure, which is told: the default if it has none of its own.

    For calls that click does not handle. An action that becomes another program does not return.
    """
    outside = root()
    try:
        return action()
    except BrokenPipeError:  # nobody reads what it says
        return EXIT_FAILURE
    except KeyboardInterrupt:
        notice("interrupted")
        return EXIT_INTERRUPTED
    except (SysenvError, OSError) as error:
        return tell(error, default)
    except Exception as error:
        store = None
        with suppress(SysenvError):
            store = store_location()
        return tell_unexpected(error, outside, store, None)


def tell(error: SysenvError | OSError, default: int) -> int:
    """Print what has failed; returns the exit status, the default if the error has none of its own."""
    error = described(error)
    with suppress(OSError):  # the terminal has gone, or what stderr leads to is full
        failure(error.message)
        if error.hint:
            hint(error.hint)
    return default if error.exit_status is None else error.exit_status


def tell_unexpected(error: Exception, outside: tuple[int, int], store: Path | None, caller: Caller | None) -> int:
    """Print that there is a bug, and where its report is; returns the exit status.

    Inside an environment, where / differs from `outside`, there is no report: nothing may be imported, and it
    would be that one's file.
    """
    if failed := output_failure():
        return tell(failed, EXIT_FAILURE)
    found = Unexpected.of(error)
    path = _report(found, store, caller) if root() == outside else None
    with suppress(OSError):
        where = f"a report is in {quoted(path)}" if path else "no report could be written"
        failure(f"this is a bug in sysenv-ns ({found.kind}); {where}")
        if path:
            hint("read it, then send it to the authors")
    return EXIT_UNEXPECTED


def root() -> tuple[int, int]:
    """The identity of / for this process."""
    status = os.stat("/")
    return status.st_dev, status.st_ino


def _report(error: Unexpected, store: Path | None, caller: Caller | None) -> str | None:
    """The path of the report; None if even writing that fails."""
    try:
        from sysenv_ns import report

        return report.write(error, store, caller)
    except Exception:  # memory or descriptors may have run out
        return None
