"""The driver copy: the base has copies of all files; chosen by name, or after a question about the space it takes."""

from __future__ import annotations

import os

from sysenv_ns.drivers.layered import Layered
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import Declined
from sysenv_ns.files import sizes
from sysenv_ns.host import survey
from sysenv_ns.reporter import Ask

_SPARE = 1.25  # times the room that the files take


class CopyDriver(Layered):
    """An overlay in a user namespace (overlayfs, Linux 5.11)."""

    name = "copy"
    data = "copy"
    needs = "Linux 5.12 or later with overlayfs"

    asks = True

    def agree(self, store: Store, ask: Ask | None, by_name: bool) -> None:
        """See Driver."""
        if by_name or any(store.base.glob(f"{self.name}-*")):
            return
        if ask is not None:  # measuring takes a few seconds
            host = survey.host(None, run=False)
            size = sum(sizes.of_contents(path, host.bound_paths) for path in host.system_directories)
            disk = os.statvfs(store.path)
            free = disk.f_bavail * disk.f_frsize
            question = (
                f"The driver copy copies this system once into {store.path}: {_gigabytes(size)} of the "
                f"{_gigabytes(free)} that are free there. All environments share the copy. Continue?"
            )
            if free > size * _SPARE and ask(question):
                return
        raise Declined("the driver copy is used only on request", "use it: --driver copy")


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


DRIVER = CopyDriver()
