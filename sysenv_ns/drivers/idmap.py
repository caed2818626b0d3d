"""The driver idmap: overlays directly above the host's /usr and /opt, which root mounts with the environment's ids.

An idmapped mount (mapped/) shows root's files as those of the environment's root, so that overlayfs can copy them up:
no base is needed for them. overlayfs does not cross mounts in a layer, so each has an overlay of its own. Its changes
are in the upper directory of /, where they would be without it: any driver of users can use them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sysenv_ns import policy, sudo
from sysenv_ns.basics import opened
from sysenv_ns.drivers.layered import Layered
from sysenv_ns.environment import directory
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import Declined, SysenvError
from sysenv_ns.host.base_files import Data
from sysenv_ns.host.layout import Host
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.mountinfo import ancestors, is_below
from sysenv_ns.kernel.operations import Operation
from sysenv_ns.kernel.overlay import Overlay, UnionMount
from sysenv_ns.lower.base import BaseLayer
from sysenv_ns.mapped import client, trees
from sysenv_ns.records import replace
from sysenv_ns.reporter import Ask

_HOST_FILE = "bin/env"  # below /usr
QUESTION = """\
The driver idmap needs root once after each boot: sudo is used to mount /usr and /opt for you in
{place}, read-only, with the ids of your environments, which then use them directly. Root of
your environments can then read all files there and use all sockets, including those that only root can use now.
Nothing else is mounted or changed, and `sysenv-ns host release` undoes it. Continue?"""


class IdmapDriver(Layered):
    """Idmapped layers (overlayfs, Linux 5.19)."""

    name = "idmap"
    needs = "Linux 5.19 or later with overlayfs"

    def data_for(self, store: Store, environment: Environment) -> Data:
        """See Layered: stubs for what is mirrored, if the kernel can show their data."""
        from sysenv_ns.drivers import driver, probe

        try:
            probe.try_driver(store, driver.get("stub"), environment.id_map)
        except SysenvError:
            return "copy"
        return "stub"

    asks = True

    def agree(self, store: Store, ask: Ask | None, by_name: bool) -> None:
        """See Driver."""
        uid = os.getuid()
        if trees.is_prepared(uid, os.getgid()):
            return
        if os.geteuid() != 0:
            if not sudo.available():
                raise SysenvError("the driver idmap needs root once, and sudo cannot be used", _hint())
            if ask is None or not ask(QUESTION.format(place=trees.place_of(uid))):
                raise Declined("the driver idmap needs root once, to mount /usr for you", _hint())
            if trees.is_prepared(uid, os.getgid()):
                return  # somebody has answered in another terminal meanwhile, and may be using it
        client.prepare(uid)

    def require(self, store: Store) -> None:
        """See Driver."""
        if not trees.is_prepared(os.getuid(), os.getgid()):
            raise SysenvError(
                "/usr, as it is mounted now, has not been prepared for you since this system was started", _hint()
            )

    def surveyed(self, environment: Environment, host: Host) -> Host:
        """See Driver."""
        assert environment.id_map is not None
        shown = trees.found(host, environment.id_map, os.getuid())
        if policy.MAPPED[0] not in shown:
            first = environment.id_map.uids[0].outside
            raise SysenvError(
                f"{environment.name} was made with other ids than /etc/subuid and /etc/subgid grant you now",
                f"let them grant you the ids from {first} on again, before others; then run: sysenv-ns host prepare",
            )
        return replace(host, mapped=shown)

    def overlays(self, environment: Environment, host: Host, layers: tuple[BaseLayer, ...]) -> Sequence[UnionMount]:
        """See Layered: that of /, and one for each idmapped mount, unless a change hides its place."""
        shown = {point: place for point, place in sorted(host.mapped.items()) if not _is_hidden(point, environment)}
        _make_directories(environment, shown)
        below = [*environment.uppers()[1:], layers[0].tree]  # of the base only the tool's own files are there
        inner = (
            Overlay(
                point,
                environment.source,
                lowers=(*(path for path in (f"{lower}{point}" for lower in below) if os.path.isdir(path)), place),
                upper=f"{environment.upper}{point}",
                work=str(_work(environment, point)),
            )
            for point, place in shown.items()
        )
        return (self.overlay(environment, layers), *inner)

    def filled(self, plan: tuple[Operation, ...], environment: Environment) -> tuple[Operation, ...]:
        """See Driver: what the environment hides by now is not mounted."""
        inner = [operation for operation in plan[1:] if isinstance(operation, Overlay)]
        hidden = [overlay for overlay in inner if _is_hidden(overlay.target, environment)]
        shown = {overlay.target: overlay.lowers[-1] for overlay in inner if overlay not in hidden}
        _make_works(environment, shown)
        upper, *frozen = map(str, environment.uppers())
        _make(upper, frozen, shown)
        return tuple(operation for operation in plan if operation not in hidden)

    def probe(self, path: Path) -> None:
        """See Driver."""
        from sysenv_ns.drivers import probe

        own = probe.overlay(path)
        probe.use(own, path)
        uid = path.stat().st_uid  # the full id map keeps one's own number
        for name in ("programs", "programs-work"):
            (path / name).mkdir()
        upper, work = str(path / "programs"), str(path / "programs-work")
        with opened(replace(own, lowers=(f"{trees.place_of(uid)}/usr",), upper=upper, work=work).prepare()) as mount:
            os.link(_HOST_FILE, "linked", src_dir_fd=mount, dst_dir_fd=mount)


def _hint() -> str:
    if os.geteuid() == 0 or sudo.available():
        return "run: sysenv-ns host prepare (needs sudo, once after each boot)"
    return f"let root run, once after each boot: sysenv-ns host prepare --user {os.getuid()}"


def _is_hidden(point: str, environment: Environment) -> bool:
    """Whether the environment has deleted or replaced a directory of the host or one above it.

    Then the overlay of / shows the right content, as the base has nothing there.
    """
    for upper in environment.uppers():
        path = str(upper)
        for name in point.strip("/").split("/"):
            path = f"{path}/{name}"
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                break
            if not stat.S_ISDIR(status.st_mode) or environment.marks.is_opaque(path):
                return True
    return False


def _work(environment: Environment, point: str) -> Path:
    return environment.path / directory.inner_work(point)


def _make_directories(environment: Environment, shown: Mapping[str, str]) -> None:
    """Create those for work, and in the upper, if that exists, missing ones. Raises OSError, SysenvError."""
    _make_works(environment, shown)
    upper, *frozen = map(str, environment.uppers())
    if os.path.isdir(upper) and not all(os.path.isdir(f"{upper}{point}") for point in shown):
        namespace.run_inside(environment.id_map, lambda: _make(upper, frozen, shown), "sysenv-ns-upper")


def _make_works(environment: Environment, points: Iterable[str]) -> None:
    for point in points:
        _work(environment, point).mkdir(mode=0o755, exist_ok=True)


def _make(upper: str, frozen: Sequence[str], shown: Mapping[str, str]) -> None:
    """Create directories like those that they will be mounted over, as overlayfs does when it copies up."""
    times = []
    for point in shown:
        for path in (*reversed([*ancestors(point)][:-1]), point):
            place = f"{upper}{path}"
            if os.path.isdir(place):
                continue
            outer = max((outer for outer in shown if path == outer or is_below(path, outer)), key=len)
            models = (*(f"{layer}{path}" for layer in frozen), f"{shown[outer]}{path[len(outer) :]}")
            status = os.lstat(next(filter(os.path.isdir, models)))
            parent = os.path.dirname(place)
            times += [(parent, os.lstat(parent)), (place, status)]
            os.mkdir(place, 0o700)
            os.chown(place, status.st_uid, status.st_gid)
            os.chmod(place, stat.S_IMODE(status.st_mode))
    for place, status in reversed(times):  # what is made in a directory changes its own
        os.utime(place, ns=(status.st_atime_ns, status.st_mtime_ns))


DRIVER = IdmapDriver()
