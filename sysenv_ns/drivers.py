"""The ways in which a file's data gets into an environment; one Driver each, chosen by trying.

stub and root are here. reflink, copy, fuse and the way through sudo have their names, and say that they are to come.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sysenv_ns import layout, standins, survey
from sysenv_ns.base import Base, ProgressBar
from sysenv_ns.errors import SysenvError
from sysenv_ns.layout import Host
from sysenv_ns.operations import Operation
from sysenv_ns.records import Addition
from sysenv_ns.store import Environment, Store

NAMES = ("stub", "reflink", "copy", "fuse", "root")


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


class Stub:
    """A base of metadata stubs over data-only lowers: the host's own files (Linux 6.16)."""

    @contextlib.contextmanager
    def prepare(self, store: Store, environment: Environment, host: Host, progress: ProgressBar) -> Iterator[Prepared]:
        base = Base(store, environment.driver, environment.id_map)
        with base.lock():
            own = base.own_layer(host)
            layers = base.layers(host, progress)
            roots = tuple(dict.fromkeys(root for layer in layers for root in layer.roots))
            root = layout.Root(
                source=environment.source,
                lowers=(str(own.tree), *(str(layer.tree) for layer in layers)),
                data_roots=roots,
                directory=str(environment.path),
                unprivileged=True,
            )
            yield Prepared(layout.plan(host, root), tuple(layer.name for layer in layers))

    def additions(self) -> tuple[Addition, ...]:
        return ()

    def build_base(self, store: Store, environment: Environment, progress: ProgressBar) -> None:
        with self.prepare(store, environment, survey.host(environment.id_map), progress):
            pass


class Root:
    """A plain overlay over / for real root, in a mount namespace of its own: no base, no user namespace."""

    @contextlib.contextmanager
    def prepare(self, store: Store, environment: Environment, host: Host, progress: ProgressBar) -> Iterator[Prepared]:
        if os.geteuid() != 0:
            raise SysenvError("the driver root needs to be run by root", "use --driver auto, or run it with sudo")
        for mount in layout.further_mounts(host):
            for name in ("upper", "work"):
                directory = environment.path / "mounts" / layout.mount_slug(mount.point) / name
                directory.mkdir(parents=True, exist_ok=True)
        root = layout.Root(
            source=environment.source,
            lowers=("/",),
            data_roots=(),
            directory=str(environment.path),
            unprivileged=False,
        )
        yield Prepared(layout.plan(host, root), ())

    def additions(self) -> tuple[Addition, ...]:
        # Not a layer of their own: overlayfs refuses a lower that lies below another one (ELOOP), and / is above all.
        return standins.host_additions(False, layout.hosts_own(survey.host(None)))

    def build_base(self, store: Store, environment: Environment, progress: ProgressBar) -> None:
        """The host itself is the base."""


_DRIVERS: dict[str, Driver] = {"stub": Stub(), "root": Root()}


def get(name: str) -> Driver:
    """The driver of that name. Raises SysenvError for those that are still to come."""
    try:
        return _DRIVERS[name]
    except KeyError:
        raise SysenvError(
            f"the driver {name} is not part of this version",
            f"use one of: {', '.join(_DRIVERS)}",
        ) from None
