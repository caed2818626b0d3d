"""The driver root: an overlay over the host's / for real root, in a mount namespace of its own; no user namespace."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sysenv_ns.basics import opened
from sysenv_ns.drivers.driver import Driver, Prepared
from sysenv_ns.environment import directory
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import NeedsRoot, UnfitStore
from sysenv_ns.host import layout, standins, survey
from sysenv_ns.host.base_files import Addition
from sysenv_ns.host.layout import Host
from sysenv_ns.kernel import remedies
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.kernel.overlay import Overlay
from sysenv_ns.lower.books import Seen
from sysenv_ns.records import dataclass
from sysenv_ns.reporter import Reporter

_HOST_DATABASE = "etc/passwd"


@dataclass(frozen=True)
class Changes:
    """Where the changes to one file system are."""

    upper: str
    work: str
    frozen: tuple[str, ...] = ()  # the frozen ones below, uppermost first


class RootDriver(Driver):
    """The host itself is the base. Each disk of the system below / has its own overlay and changes."""

    name = "root"

    @contextlib.contextmanager
    def prepare(
        self, store: Store, environment: Environment, host: Host, reporter: Reporter, seen: Seen | None = None
    ) -> Iterator[Prepared]:
        """See Driver."""
        for mount in host.disks:
            for place in (directory.upper(mount.point), directory.work(mount.point)):
                (environment.path / place).mkdir(parents=True, exist_ok=True)
        changes = {point or "/": _changes(environment, point) for point in self.points(host)}
        overlays = overlays_of_disks(host, environment.source, changes, str(environment.root))
        yield Prepared(layout.plan(host, overlays, protected=True))

    def additions(self, id_map: IdMap | None, host: Host) -> tuple[Addition, ...]:
        """See Driver."""
        return standins.root_additions(host.shown)

    def upper_additions(self) -> tuple[Addition, ...]:
        """See Driver."""
        # Not a layer of their own: overlayfs refuses a lower that lies below another one (ELOOP), and / is above all.
        return self.additions(None, survey.host(None))

    def points(self, host: Host) -> Sequence[str]:
        """See Driver."""
        return ("", *(mount.point for mount in host.disks))

    def require(self, store: Store) -> None:
        """See Driver."""
        if os.geteuid() == 0:
            return
        place = store.beside or store
        if remedies.is_unfit(place.path):  # for once foretold: trying would ask for a password
            raise UnfitStore("the driver root mounts an overlay too", remedies.unfit(place.path))
        raise NeedsRoot("the driver root needs to be run by root", "run it with sudo, or use another driver")

    def probe(self, path: Path) -> None:
        """See Driver."""
        from sysenv_ns.drivers import probe

        probe.use(probe.overlay(path, unprivileged=False), path)
        # In a user namespace the system's files may belong to nobody, and then cannot be changed.
        for name in ("upper", "work"):
            (path / f"system-{name}").mkdir()
        upper, work = str(path / "system-upper"), str(path / "system-work")
        with opened(Overlay("/", probe.SOURCE, ("/",), upper, work, unprivileged=False).prepare()) as mount:
            os.close(os.open(_HOST_DATABASE, os.O_RDWR, dir_fd=mount))

    def remedy(self, error: OSError) -> str:
        """See Driver."""
        return "root of a container or user namespace may lack what it needs: use another driver (see doctor)"


def _changes(environment: Environment, point: str) -> Changes:
    """Where the changes to what is mounted there ("" is /) are."""
    upper, *frozen = environment.uppers(directory.upper(point))
    work = environment.path / directory.work(point)
    return Changes(str(upper), str(work), tuple(map(os.path.realpath, frozen)))


def overlays_of_disks(host: Host, source: str, changes: Mapping[str, Changes], apart: str) -> tuple[Overlay, ...]:
    """For real root, an overlay over / and one over each further disk of the system, outer ones first.

    `changes` has the paths of the changes to "/" and to each disk. `apart` is an empty directory, where the host's
    directory is mounted separately if it contains frozen layers.
    """
    return tuple(
        Overlay(
            point,
            source,
            lowers=(*changes[point].frozen, point),
            upper=changes[point].upper,
            work=changes[point].work,
            unprivileged=False,
            apart=apart if any(_lies_in(path, point, host) for path in changes[point].frozen) else "",
        )
        for point in ("/", *(mount.point for mount in host.disks))
    )


def _lies_in(path: str, outer: str, host: Host) -> bool:
    """Whether a directory is inside another one on their disk, wherever that is mounted."""
    (disk, place), (outer_disk, outer_place) = layout.disk_place(path, host), layout.disk_place(outer, host)
    return disk == outer_disk and (place == outer_place or is_below(place, outer_place))


DRIVER = RootDriver()
