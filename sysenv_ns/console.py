"""Everything that prints and asks: results to stdout, the rest to stderr, escaped by text.py.

notices.py has the part that is printed without click.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import click

from sysenv_ns import text
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.notices import DUMB, can_ask, can_draw, on_terminal, to_stdout
from sysenv_ns.records import dataclass
from sysenv_ns.reporter import unseen
from sysenv_ns.sudo import Caller

# less ends when all fits on the screen, lets colours through, and leaves the text there.
_PAGER_DEFAULTS = {"LESS": "FRX", "LV": "-c"}

_ITEMS = 4000  # of a list that are written at once
_JSON_VERSION = 1  # another one where a key gets another meaning, or goes; not where one is added

_BAR_WIDTH = 36
_ERASED_LINE = "\r\x1b[K"  # EL of ECMA-48


def show(result: str) -> None:
    """A result for people, to stdout."""
    _print(_encoded(f"{text.visible(result)}\n"))


@dataclass(frozen=True)
class Encoded:
    """A list whose items are JSON already, made as they are shown."""

    items: Iterable[str]


def show_json(data: Mapping[str, object]) -> None:
    """A result as JSON, to stdout: an object with the version of what its keys mean (docs/scripts.md)."""
    for piece in json_pieces(data):
        _print(piece.encode("ascii"))  # where it is, nothing of it has to be escaped


def json_pieces(data: Mapping[str, object]) -> Iterator[str]:
    """The same as text, in pieces: printable ASCII and line feeds.

    Fields and items of lists are below each other, what is in these in one line. json's own indentation is written in
    Python: of a hundred thousand changes it takes four times as long.
    """
    encode = json.JSONEncoder().encode
    between = "{\n"
    for name, value in _enveloped(data).items():
        yield f"{between}  {encode(name)}: "
        between = ",\n"
        if isinstance(value, Encoded):
            yield from _listed(iter(value.items))
        elif isinstance(value, list | tuple):
            yield from _listed(map(encode, value))
        else:
            yield encode(value)
    yield "\n}\n"


def _listed(items: Iterator[str]) -> Iterator[str]:
    between = "[\n    "
    while piece := ",\n    ".join(itertools.islice(items, _ITEMS)):
        yield f"{between}{piece}"
        between = ",\n    "
    yield "[]" if between[0] == "[" else "\n  ]"


def show_failure(message: str, hint: str, status: int) -> None:
    """An error as JSON, a line to stderr: for who has asked for JSON."""
    error = {"message": message, "hint": hint, "status": status}
    click.echo(json.dumps(_enveloped({"error": error})), err=True)


def _enveloped(data: Mapping[str, object]) -> dict[str, object]:
    return {"version": _JSON_VERSION, **data}


def show_painted(result: str) -> None:
    """A result that may have colours of `painted`, to stdout."""
    _print(_encoded(f"{text.coloured(result)}\n"))


def show_lines(lines: Iterable[tuple[str, str]], caller: Caller | None) -> None:
    """A result for people, to stdout: lines, each with its colour of click's, or none, where there are colours."""
    if wants_colours(caller):
        show_painted("\n".join(painted(words, colour) for words, colour in lines))
    else:
        show("\n".join(words for words, _ in lines))


def show_data(data: bytes) -> None:
    """A result for programs, to stdout, exact to the byte; on a terminal control characters are escaped."""
    _print(_encoded(text.visible(os.fsdecode(data))) if on_terminal() else data)


def show_paged(result: str, caller: Caller | None) -> None:
    """A result, perhaps with colours, to a terminal, through the user's pager."""
    command = pager()
    if command is None:
        show_painted(result)
    else:
        show_in_pager(_encoded(f"{text.coloured(result)}\n"), command, caller)


def pager() -> str | None:
    """The user's pager, a shell command; None for none."""
    chosen = os.environ.get("PAGER")
    if chosen is None:
        chosen = next((name for name in ("less", "more") if find_program(name)), "")
    return chosen if chosen.strip() not in ("", "cat") else None


def show_in_pager(data: bytes, command: str, caller: Caller | None) -> None:
    """Let a pager show the data; it runs as the user, even if root acts for that user. Raises OSError."""
    import subprocess  # not on the path of exec

    become = {"user": caller.uid, "group": caller.gid, "extra_groups": caller.groups} if caller else {}
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the pager's, to stop a search
    try:
        process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.PIPE,
            env=_PAGER_DEFAULTS | dict(caller.variables if caller else os.environ),
            **become,  # type: ignore[call-overload]
        )
        with contextlib.suppress(BrokenPipeError):  # left before the end
            process.communicate(data)
    finally:
        signal.signal(signal.SIGINT, before)


def wants_colours(caller: Caller | None) -> bool:
    """Whether results are shown in colours: on a terminal that has them, unless NO_COLOR forbids it (no-color.org)."""
    variables = os.environ if caller is None else caller.variables
    return on_terminal() and not variables.get("NO_COLOR") and variables.get("TERM") != DUMB


def painted(result: str, colour: str) -> str:
    """A text for `show_painted` and `show_paged`, in a colour of click's, "bold" or none."""
    if colour == "bold":
        return click.style(text.visible(result), bold=True)
    return click.style(text.visible(result), fg=colour) if colour else text.visible(result)


def _print(data: bytes) -> None:
    with to_stdout():
        click.echo(data, nl=False)


def _encoded(result: str) -> bytes:
    """A text in the encoding of stdout; characters that this lacks become escapes."""
    encoding = sys.stdout.encoding if sys.stdout is not None else None
    return result.encode(encoding or "utf-8", "backslashreplace")


def asked(question: str, default: bool = False) -> bool:
    """Whether the user says yes, on the terminal; `default` is the meaning of an empty answer."""
    return click.confirm(text.visible(question), default=default, err=True)


def confirmed(question: str, yes: bool) -> bool:
    """Whether the user confirms what was shown: by an option, or when asked on the terminal. Raises SysenvError."""
    if yes:
        return True
    if not can_ask():
        raise SysenvError("cannot ask for confirmation: no terminal", "check what would be done, then give --yes")
    return asked(question)


def show_plan(plan: str) -> None:
    """Show what a question is about, on stderr like the question."""
    click.echo(text.visible(plan), err=True)


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[float], None]]:
    """A function to report progress to, from 0 to 1: a bar on a terminal that can draw it, else nothing.

    It is erased at the end, however that comes: what is said then stands where the bar was.
    """
    if not can_draw():
        yield unseen
        return
    shown = ""

    def report(fraction: float) -> None:
        nonlocal shown
        done = min(max(fraction, 0.0), 1.0)
        bar = f"{text.line(label)}  [{'#' * int(done * _BAR_WIDTH):-<{_BAR_WIDTH}}] {int(done * 100):3} %"
        if bar != shown:
            shown = bar
            click.echo(f"\r{bar}", nl=False, err=True)

    report(0)
    try:
        yield report
    finally:
        click.echo(_ERASED_LINE, nl=False, err=True)
