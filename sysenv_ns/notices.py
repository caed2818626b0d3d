"""Lines to stderr, and results without colours, escaped by text.py; console.py has all else that prints, with click."""

from __future__ import annotations

import errno
import os
import sys

from sysenv_ns import TYPE_CHECKING, text
from sysenv_ns.basics import contextmanager
from sysenv_ns.errors import SysenvError, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

_INDENTATION = "  "
_STDOUT = 1
DUMB = "dumb"  # the TERM of terminals that know no escape sequences
QUIET = "SYSENV_NS_QUIET"  # a variable, so that what is run by the tool is as quiet


def notice(message: str) -> None:
    """What the user should know, to stderr, unless nothing shall be said."""
    if not os.environ.get(QUIET):
        _tell("sysenv-ns: ", message)


def failure(message: str) -> None:
    """What has failed, to stderr."""
    _tell("sysenv-ns: ", message)


def hint(message: str) -> None:
    """What the user could do, to stderr."""
    _tell("hint: ", message)


def operation(message: str) -> None:
    """What is being done, for -v, to stderr."""
    _tell("+ ", message)


def result(text_of_lines: str) -> None:
    """A result, to stdout. Raises what `to_stdout` does."""
    if sys.stdout is not None:
        data = f"{text.visible(text_of_lines)}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace")
        with to_stdout():
            sys.stdout.flush()
            while data:
                data = data[os.write(_STDOUT, data) :]


def output_failure() -> SysenvError | None:
    """Why what click itself has printed has not got through: only if it is buffered, another attempt tells."""
    try:
        if sys.stdout is not None:
            with to_stdout():
                sys.stdout.flush()
    except BrokenPipeError:  # what has failed is something else
        return None
    except SysenvError as failed:
        return failed
    return None


@contextmanager
def to_stdout() -> Iterator[None]:
    """For writing to it. Raises SysenvError if it takes no more, BrokenPipeError if nobody reads it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, _STDOUT)  # or Python tries once more at its end, and has the last word
        os.close(null)
        remedy = "free some space where the output goes" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise SysenvError(f"writing to standard output failed: {reason(error)}", remedy) from error


def on_terminal() -> bool:
    """Whether results go to a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def can_ask() -> bool:
    """Whether the user can be asked: stdin and stderr are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def can_draw() -> bool:
    """Whether stderr is a terminal that can be drawn on."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != DUMB


def _tell(prefix: str, message: str) -> None:
    """Lines after the first are indented, as what is quoted in a message shall not look like another message."""
    if sys.stderr is not None:
        sys.stderr.write(prefix + text.visible(message).replace("\n", f"\n{_INDENTATION}") + "\n")
        sys.stderr.flush()
