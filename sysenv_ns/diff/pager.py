"""Shows text on a terminal through the user's pager, as git does; makes no text."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.sudo import Caller

# Ends when all fits on the screen, lets colours through, leaves the text there.
_DEFAULTS = {"LESS": "FRX", "LV": "-c"}


def program() -> str | None:
    """The user's pager, a shell command; None for none."""
    chosen = os.environ.get("PAGER")
    if chosen is None:
        chosen = next((name for name in ("less", "more") if find_program(name)), "")
    return chosen if chosen.strip() not in ("", "cat") else None


def show(data: bytes, command: str, caller: Caller | None) -> None:
    """Let the pager show the data; it runs as the user, also where root acts for that one. Raises OSError."""
    become = {"user": caller.uid, "group": caller.gid, "extra_groups": caller.groups} if caller else {}
    before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the pager's, to stop a search
    try:
        process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.PIPE,
            env=_DEFAULTS | dict(os.environ),
            **become,  # type: ignore[call-overload]
        )
        with contextlib.suppress(BrokenPipeError):  # left before the end
            process.communicate(data)
    finally:
        signal.signal(signal.SIGINT, before)
