"""Talks to the process that changes this system (root.py); decides nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import TypeVar

from sysenv_ns import documents, sudo
from sysenv_ns.apply import root
from sysenv_ns.apply.root import Request
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import outcome

_T = TypeVar("_T")


def ask(request: Request, kind: type[_T], send: Callable[[int], None] | None = None) -> _T:
    """Let root answer a request, with something of that type; `send` writes what follows it to a pipe, when root is
    there. Raises SysenvError.
    """
    process = sudo.start(root.__name__)
    assert process.stdin is not None
    assert process.stdout is not None
    data = json.dumps(request, default=documents.as_data).encode()
    with contextlib.suppress(BrokenPipeError):  # it has ended already: its answer says why
        process.stdin.write(f"{len(data):0{root.LENGTH}}".encode() + data)
        process.stdin.flush()
        if send is not None and process.stdout.readline() == root.READY:
            send(process.stdin.fileno())
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    answer = _wait(process.stdout.read)
    process.stdout.close()
    status = process.wait()
    try:
        return outcome.result(answer, kind)
    except ValueError:
        hint = "undo what it did, if anything: sysenv-ns apply --undo"
        raise SysenvError(f"the process that changes this system as root ended with status {status}", hint) from None


def _wait(read: Callable[[], bytes]) -> bytes:
    """An interrupt from the terminal reaches root's process too: wait for its answer."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return read()
