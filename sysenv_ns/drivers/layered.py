"""What the drivers with a base have in common: all but root."""

from __future__ import annotations

import errno

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import contextmanager
from sysenv_ns.drivers.driver import Driver, Prepared
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.host import layout
from sysenv_ns.host.base_files import Addition, Data
from sysenv_ns.host.layout import Host
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.overlay import Overlay, UnionMount
from sysenv_ns.lower import base
from sysenv_ns.lower.base import Base, BaseLayer, Wishes
from sysenv_ns.paths import Path
from sysenv_ns.reporter import Reporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sysenv_ns.lower.books import Seen


class Layered(Driver):
    """Environments above a base."""

    data: Data = "copy"
    needs: str  # of the system, for messages

    def data_for(self, store: Store, environment: Environment) -> Data:
        """How the data of larger files gets into the base; called when it is built."""
        return self.data

    @contextmanager
    def prepare(
        self, store: Store, environment: Environment, host: Host, reporter: Reporter, seen: Seen | None = None
    ) -> Iterator[Prepared]:
        """See Driver."""
        host = self.surveyed(environment, host)
        own = self.base(store, environment, host.wishes)
        with own.layers(host, reporter, seen) as layers:
            plan = layout.plan(host, self.overlays(environment, host, layers))
            yield Prepared(plan, tuple(layer.name for layer in layers), own.path.name)

    def overlays(self, environment: Environment, host: Host, layers: tuple[BaseLayer, ...]) -> Sequence[UnionMount]:
        """All overlays above these layers of the base, that of the root first."""
        return (self.overlay(environment, layers),)

    def overlay(self, environment: Environment, layers: tuple[BaseLayer, ...]) -> UnionMount:
        """The root, above these layers of the base."""
        return Overlay(
            "/",
            environment.source,
            lowers=(*map(str, environment.uppers()[1:]), *(str(layer.tree) for layer in layers)),
            upper=str(environment.upper),
            work=str(environment.work),
            data_roots=tuple(dict.fromkeys(root for layer in layers for root in layer.roots)),
        )

    def base(self, store: Store, environment: Environment, wishes: Wishes) -> Base:
        """See Driver."""
        return Base(store, environment, wishes, lambda: self.data_for(store, environment))

    def build_base(self, store: Store, environment: Environment, host: Host, reporter: Reporter) -> None:
        """See Driver."""
        with self.base(store, environment, host.wishes).layers(self.surveyed(environment, host), reporter):
            pass

    def additions(self, id_map: IdMap | None, host: Host) -> tuple[Addition, ...]:
        """See Driver."""
        return base.additions(id_map, host)

    def probe(self, path: Path) -> None:
        """See Driver."""
        from sysenv_ns.drivers import probe

        probe.use(probe.overlay(path), path)

    def remedy(self, error: OSError) -> str:
        """See Driver."""
        if error.errno not in (errno.EINVAL, errno.EPERM, errno.ENODEV):
            return ""
        return f"the driver {self.name} needs {self.needs}; `sysenv-ns doctor` shows what works here"
