"""The driver stub: in the base an empty file represents each larger one, and overlayfs shows the host's own data."""

from __future__ import annotations

from sysenv_ns.drivers.layered import Layered
from sysenv_ns.paths import Path


class StubDriver(Layered):
    """Data-only lowers in a user namespace (overlayfs, Linux 6.16)."""

    name = "stub"
    data = "stub"
    needs = "Linux 6.16 or later with overlayfs"

    def probe(self, path: Path) -> None:
        """See Driver."""
        from sysenv_ns.drivers import probe
        from sysenv_ns.host.base_files import DIRECTORY, STUB
        from sysenv_ns.lower import mirror

        (path / "data").mkdir()
        (path / "data" / "file").write_bytes(probe.DATA)
        writer = mirror.Writer(str(path / "lower"))
        stub = (STUB, "file", 0o644, 0, 0, 0, (len(probe.DATA), "/file"))
        writer.add("", (DIRECTORY, "", 0o755, 0, 0, 0, None), [stub])
        probe.use(probe.overlay(path, data_roots=(str(path / "data"),)), path)


DRIVER = StubDriver()
