"""Speaks to the process that changes this system (root.py); decides nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from sysenv_ns import sudo
from sysenv_ns.errors import SysenvError
from sysenv_ns.to_host import root


def ask(request: dict[str, Any], send: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Let root answer a request; `send` writes what follows it to a pipe, when root is there. Raises SysenvError."""
    process = sudo.start(root.__name__)
    assert process.stdin is not None
    assert process.stdout is not None
    data = json.dumps(request).encode()
    with contextlib.suppress(BrokenPipeError):  # it has ended already: its answer says why
        process.stdin.write(f"{len(data):0{root.LENGTH}}".encode() + data)
        process.stdin.flush()
        if send is not None and process.stdout.readline() == root.READY:
            send(process.stdin.fileno())
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    answer = _wait(process.stdout.read)
    status = process.wait()
    try:
        said = json.loads(answer)
    except ValueError:
        hint = "nothing was done, or it goes with: sysenv-ns apply --undo"
        raise SysenvError(f"what changes this system as root ended with status {status}", hint) from None
    if "message" in said:
        raise SysenvError(said["message"], said["hint"])
    result = said["result"]
    assert isinstance(result, dict)
    return result


def _wait(read: Callable[[], bytes]) -> bytes:
    """An interrupt from the terminal reaches root's process too: what that says of it is waited for."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return read()
