"""The ways in which a file's data gets into an environment; one Driver each. Which one works, doctor.py finds out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sysenv_ns.host import config, layout, standins, survey
from sysenv_ns.host.layout import Host
from sysenv_ns.host.records import Addition, Data
from sysenv_ns.kernel.operations import Operation
from sysenv_ns.lower.base import Base, ProgressBar
from sysenv_ns.lower.upkeep import Refreshed
from sysenv_ns.store import Environment, Store
from sysenv_ns.upper import uppers


@dataclass(frozen=True)
class Prepared:
    """What a start needs: the plan, and the base layers that it mounts (by name)."""

    plan: tuple[Operation, ...]
    layers: tuple[str, ...]


class Driver(Protocol):
    """Makes everything ready that must be there before the namespaces are entered."""

    def prepare(
        self, store: Store, environment: Environment, host: Host, progress: ProgressBar
    ) -> contextlib.AbstractContextManager[Prepared]:
        """The plan; what it refers to is kept from being deleted inside the context. Raises SysenvError."""

    def additions(self) -> tuple[Addition, ...]:
        """What goes into a new upper because there is no layer below it to hold it."""

    def build_base(self, store: Store, environment: Environment, progress: ProgressBar) -> None:
        """Make the base now, so that the first start is as fast as all others. Raises SysenvError."""

    def refresh_base(self, store: Store, environment: Environment, progress: ProgressBar) -> Refreshed:
        """Compare every file of the base with the host, and make anew what differs. Raises SysenvError."""


@dataclass(frozen=True)
class Layered:
    """Environments above a base that mirrors the host; `data` is how the data of larger files gets into it."""

    data: Data

    @contextlib.contextmanager
    def prepare(self, store: Store, environment: Environment, host: Host, progress: ProgressBar) -> Iterator[Prepared]:
        """See Driver."""
        with base(store, environment).layers(host, self.data, progress) as layers:
            below = ("/",) if self.data == "host" else ()
            root = layout.Root(
                source=environment.source,
                lowers=(*(str(layer.tree) for layer in layers), *below),
                data_roots=tuple(dict.fromkeys(root for layer in layers for root in layer.roots)),
                directory=str(environment.path),
                unprivileged=True,
                fuse=self.data == "host",
                frozen={"/": tuple(map(str, environment.uppers()[1:]))},
            )
            yield Prepared(layout.plan(host, root), tuple(layer.name for layer in layers))

    def additions(self) -> tuple[Addition, ...]:
        """See Driver."""
        return ()

    def build_base(self, store: Store, environment: Environment, progress: ProgressBar) -> None:
        """See Driver."""
        with self.prepare(store, environment, config.host(store, environment), progress):
            pass

    def refresh_base(self, store: Store, environment: Environment, progress: ProgressBar) -> Refreshed:
        """See Driver."""
        return base(store, environment).refresh(config.host(store, environment), self.data, progress)


class Root:
    """A plain overlay over / for real root, in a mount namespace of its own: no base, no user namespace."""

    @contextlib.contextmanager
    def prepare(self, store: Store, environment: Environment, host: Host, progress: ProgressBar) -> Iterator[Prepared]:
        """See Driver."""
        places = {mount.point: f"{uppers.directory(mount.point)}/" for mount in layout.further_mounts(host)}
        for place in places.values():
            for name in ("upper", "work"):
                (environment.path / place / name).mkdir(parents=True, exist_ok=True)
        root = layout.Root(
            source=environment.source,
            lowers=("/",),
            data_roots=(),
            directory=str(environment.path),
            unprivileged=False,
            frozen={
                point: tuple(map(os.path.realpath, environment.uppers(f"{place}upper")[1:]))
                for point, place in {"/": "", **places}.items()
            },
        )
        yield Prepared(layout.plan(host, root), ())

    def additions(self) -> tuple[Addition, ...]:
        """See Driver."""
        # Not a layer of their own: overlayfs refuses a lower that lies below another one (ELOOP), and / is above all.
        return standins.root_additions(layout.hosts_own(survey.host(None)))

    def build_base(self, store: Store, environment: Environment, progress: ProgressBar) -> None:
        """The host itself is the base."""

    def refresh_base(self, store: Store, environment: Environment, progress: ProgressBar) -> Refreshed:
        """The host itself is the base, and always up to date."""
        return Refreshed()


_DRIVERS: dict[str, Driver] = {
    "stub": Layered("stub"),  # Linux 6.16
    "reflink": Layered("copy"),  # the store on the btrfs or xfs that /usr lies on
    "copy": Layered("copy"),
    "fuse": Layered("host"),
    "root": Root(),
}


def base(store: Store, environment: Environment) -> Base:
    """The base of an environment, which others may share. Raises SysenvError."""
    wishes = config.of_environment(store, environment)
    return Base(store, environment, (wishes.bind, wishes.overlay))


def get(name: str) -> Driver:
    """The driver of that name, one of policy.DRIVERS."""
    return _DRIVERS[name]
