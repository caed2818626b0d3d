"""What to do about a unit that did not start, as far as can be told; does nothing itself."""

from __future__ import annotations

import contextlib

from sysenv_ns.within import logs

_PRIVILEGED_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


def on_failure(name: str) -> str:
    """For a service."""
    return on_port(name) or f"journalctl -u {name} shows its output"


def on_port(name: str) -> str:
    """If a service may not have the port that it wants; empty where that is not the reason."""
    said = "\n".join(logs.last(name, 30)).lower()
    if "permission denied" in said and ("bind" in said or "port 80" in said or ":80" in said or "listen" in said):
        return low_ports()
    return ""


def low_ports() -> str:
    """Of ports that only root of the host may use."""
    with contextlib.suppress(OSError), open(_PRIVILEGED_PORTS, encoding="ascii") as stream:
        lowest = stream.read().strip()
        return (
            f"ports below {lowest} are the host's: choose another one, or, on the host, "
            "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=0"
        )
    return ""
