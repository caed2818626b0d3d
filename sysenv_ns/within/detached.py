"""Runs a function in a detached process, and waits only for its first message."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import NoReturn

from sysenv_ns.within.units import OrderError

DONE = "done"  # what the function writes to its descriptor, and closes that, when all is well


def run(name: str, function: Callable[[int], None], kept: Sequence[int] = ()) -> None:
    """Run a function, on behalf of the unit of this name, until it has said DONE. Raises OrderError with all else.

    `kept`: the descriptors that it needs; no other is left to it.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            _run(name, writing, function, kept)
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading, encoding="utf-8") as stream:
        said = stream.read()
    if said != DONE:
        message, _, hint = said.partition("\n")
        raise OrderError(message or f"Job for {name} failed: its supervisor died.", hint)


def words(error: OrderError) -> str:
    """What is said instead of DONE, of an order that cannot be carried out."""
    return f"{error.message}\n{error.hint}" if error.hint else error.message


def _run(name: str, report: int, function: Callable[[int], None], kept: Sequence[int]) -> NoReturn:
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        # Whoever gave the order may wait for the end of its pipes.
        lowest = 3
        for number in (*sorted((report, *kept)), min(os.sysconf("SC_OPEN_MAX"), 1 << 16)):
            os.closerange(lowest, number)
            lowest = number + 1
        function(report)
        status = 0
    except BaseException as error:  # whatever it is, it is said to who waits
        said = words(error) if isinstance(error, OrderError) else f"{name}: its supervisor failed: {error!r}"
        with contextlib.suppress(OSError):
            os.write(report, said.encode())
    finally:
        os._exit(status)
