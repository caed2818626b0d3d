"""The interface of drivers, and how to get one by its name; each driver is a module here with its name.

A new driver is a new module with its DRIVER, and a row in policy.DRIVERS.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.environment import config
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.host.base_files import Addition
from sysenv_ns.host.layout import Host
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.operations import Operation
from sysenv_ns.lower.base import Base, Wishes
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass
from sysenv_ns.reporter import Ask, Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from sysenv_ns.files.marks import Marks
    from sysenv_ns.lower.books import Seen


@dataclass(frozen=True)
class Prepared:
    """What a start needs: the plan, the base layers that it mounts, and the base that they are of (by name)."""

    plan: tuple[Operation, ...]
    layers: tuple[str, ...] = ()
    base: str = ""


class Driver(ABC):
    """One way of getting the host's files into an environment. The table of names and id maps is policy.DRIVERS."""

    name: str
    asks = False  # whether `agree` does anything

    @property
    def marks(self) -> Marks:
        """How its overlays hide what is below them."""
        from sysenv_ns.files import marks  # not on the path of exec

        return marks.of(self.name)

    @abstractmethod
    def prepare(
        self, store: Store, environment: Environment, host: Host, reporter: Reporter, seen: Seen | None = None
    ) -> AbstractContextManager[Prepared]:
        """Prepare everything that must exist before the namespaces are entered, and plan the mounts.

        What of a base was just `seen` to be as on the host is not looked at again.
        Within the context, what the plan refers to is not deleted. Raises SysenvError.
        """

    def filled(self, plan: tuple[Operation, ...], environment: Environment) -> tuple[Operation, ...]:
        """The plan for an environment whose upper directory did not exist at `prepare`, and does now.

        Called as root of its namespace. Raises OSError.
        """
        return plan

    def surveyed(self, environment: Environment, host: Host) -> Host:
        """The host as the base of an environment mirrors it. Raises SysenvError."""
        return host

    def base(self, store: Store, environment: Environment, wishes: Wishes) -> Base | None:
        """The base of an environment, perhaps shared by others; None for a driver without one."""
        return None

    def build_base(  # noqa: B027
        self, store: Store, environment: Environment, host: Host, reporter: Reporter
    ) -> None:
        """Build the base, if there is one, so that the first start is as fast as later ones. Raises SysenvError."""

    @abstractmethod
    def additions(self, id_map: IdMap | None, host: Host) -> tuple[Addition, ...]:
        """The files that environments have in addition to the host's, or instead of them."""

    def upper_additions(self) -> tuple[Addition, ...]:
        """Those of them that go into a new upper, if there is no base to hold them."""
        return ()

    def points(self, host: Host) -> Sequence[str]:
        """The mount points of its overlays, "" for /."""
        return ("",)

    def agree(self, store: Store, ask: Ask | None, by_name: bool) -> None:  # noqa: B027
        """Ask for the user's consent, if needed, and do what it was needed for. Raises SysenvError without it.

        `ask` is None if nobody can be asked; `by_name`: the user chose the driver, or an environment already has it.
        """

    def require(self, store: Store) -> None:  # noqa: B027
        """Raise SysenvError for what is missing, before anything is tried."""

    @abstractmethod
    def probe(self, path: Path) -> None:
        """Do what an environment does, as root of its namespace, in an empty directory. Raises OSError, SysenvError."""

    def remedy(self, error: OSError) -> str:
        """The remedy for an overlay that cannot be mounted; "" if the driver knows none."""
        return ""


def get(name: str) -> Driver:
    """The driver of that name, one of policy.DRIVERS; no other one is imported."""
    assert name in policy.DRIVERS
    # As importlib.import_module does it, whose own import takes longer.
    found: Driver = __import__(f"sysenv_ns.drivers.{name}", fromlist=["DRIVER"]).DRIVER
    return found


def base_of(store: Store, environment: Environment) -> Base | None:
    """The base of an environment with its present settings. Raises SysenvError."""
    return of(environment).base(store, environment, config.of_environment(store, environment).wishes)


def of(environment: Environment) -> Driver:
    """The driver of an environment."""
    return get(environment.driver)
