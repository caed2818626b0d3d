"""The user's own service manager on the host (systemd --user): whether it runs, and the variables that lead to it."""

from __future__ import annotations

import os
import socket

from sysenv_ns import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROGRAMS = ("/usr/bin", "/bin")


def program(name: str) -> str | None:
    """One of systemd's programs; None where it is not installed."""
    return next((path for place in _PROGRAMS if os.access(path := f"{place}/{name}", os.X_OK)), None)


def variables_for(variables: Mapping[str, str]) -> dict[str, str] | None:
    """The variables of a program that shall speak to it; None where none runs."""
    directory = variables.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(f"{directory}/systemd/private")  # one that was killed has left its socket
        except OSError:
            return None
    return {"XDG_RUNTIME_DIR": directory, "PATH": ":".join(_PROGRAMS)}
