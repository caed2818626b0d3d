"""The driver reflink: the base has copies that share their data with the host's files, on the same btrfs or xfs."""

from __future__ import annotations

from pathlib import Path

from sysenv_ns.drivers.layered import Layered
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import syscalls

_HOST_FILE = "/bin/sh"


class ReflinkDriver(Layered):
    """An overlay in a user namespace (overlayfs, Linux 5.11)."""

    name = "reflink"
    data = "copy"
    needs = "Linux 5.12 or later with overlayfs"

    def probe(self, path: Path) -> None:
        """See Driver."""
        with open(_HOST_FILE, "rb") as source, open(path / "shared", "wb") as target:
            shared = syscalls.clone_file(source.fileno(), target.fileno())
        if not shared:
            raise SysenvError(
                "the store cannot share data with the system's files (reflink)",
                "put the store on the same btrfs or xfs as /usr: set SYSENV_NS_HOME",
            )
        super().probe(path)


DRIVER = ReflinkDriver()
