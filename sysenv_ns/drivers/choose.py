"""Chooses a driver and an id map for a new environment, by trying them; changes nothing else."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, policy, sudo
from sysenv_ns.drivers import driver as drivers
from sysenv_ns.drivers import probe
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import Declined, Exhausted, NeedsRoot, SysenvError, UnfitStore
from sysenv_ns.kernel import idmap, namespace
from sysenv_ns.kernel.idmap import IdMap, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from sysenv_ns.drivers.driver import Driver
    from sysenv_ns.reporter import Ask

# What is to be done in a namespace of the environment, if a driver works.
Then: TypeAlias = "Callable[[Driver], Callable[[], None]]"


def _only_try(driver: Driver) -> Callable[[], None]:
    return probe.nothing


def choose(store: Store, driver: str, kind: str, ask: Ask | None, then: Then = _only_try) -> tuple[str, IdMap | None]:
    """The driver and id map for a new environment, tried; either may be "auto". Asks the questions of drivers.

    What `then` returns is called in the namespace in which the driver was found to work.
    Raises SysenvError with the first stage that failed, NeedsRoot when only the driver root is left, and OSError or
    Exhausted for errors that every driver, even root, would meet.
    """
    probe.try_kernel()
    probe.try_store(store)
    failures: list[SysenvError] = []
    declined: set[str] = set()
    for name, id_map_kind in _candidates(driver, kind):
        if name in declined:
            continue
        id_map = None
        try:
            id_map = id_map_of(id_map_kind) if id_map_kind else None
            own = drivers.get(name)
            if own.asks:
                try_map(id_map)  # or what is asked for may be in vain
            own.agree(store, ask, by_name=driver != "auto")
            probe.try_driver(store, own, id_map, then(own))
        except Exhausted:
            raise
        except SysenvError as error:
            declined |= {name} if isinstance(error, Declined) else set()
            failures.append(_first_cause(error, id_map))
        else:
            return name, id_map
    raise _none_works(failures)


def _first_cause(error: SysenvError, id_map: IdMap | None) -> SysenvError:
    """Why a driver does not work with an id map: what it lacks says little where there are no namespaces.

    Raises Exhausted.
    """
    if id_map is None:
        return error
    try:
        try_map(id_map)
    except Exhausted:
        raise
    except SysenvError as earlier:
        return earlier
    return error


def _none_works(failures: list[SysenvError]) -> SysenvError:
    """One error for all that were tried."""
    if unfit := [failure for failure in failures if isinstance(failure, UnfitStore)]:
        return unfit[0]  # for root as well
    last = failures[-1]
    if isinstance(last, NeedsRoot) and len(failures) > 1:
        failures = failures[:-1]
        if sudo.available():
            need = NeedsRoot(f"no driver works here without root ({failures[-1].message})", last.hint)
            need.remedy = failures[-1].hint
            return need
    # The last one of those that fail in the same way: where even the single id map fails, it is not the id map.
    return failures[-1]


def _candidates(driver: str, kind: str) -> Iterator[tuple[str, Kind | None]]:
    """The drivers and id maps to try for a new environment, in order."""
    for name in preferred() if driver == "auto" else (driver,):
        kinds = policy.DRIVERS[name]
        if kind == "auto":
            yield from ((name, possible) for possible in kinds or (None,))
        elif kind in kinds:
            yield from ((name, possible) for possible in kinds if possible == kind)
        elif driver != "auto":
            raise _unfit_kind(driver, kind)


def _unfit_kind(driver: str, kind: str) -> SysenvError:
    if possible := policy.DRIVERS[driver]:
        said = f"the driver {driver} has no {kind} id map"
        return SysenvError(said, f"use --id-map {possible[0]}", 2)
    return SysenvError(f"the driver {driver} has no id map: root inside is root outside", "leave out --id-map", 2)


def preferred() -> tuple[str, ...]:
    """The drivers, the best first."""
    names = tuple(policy.DRIVERS)
    # Real root needs none of what the others do to be without it.
    return tuple(sorted(names, key=lambda name: bool(policy.DRIVERS[name])) if os.geteuid() == 0 else names)


def id_map_of(kind: Kind) -> IdMap:
    """The caller's id map of that kind. Raises SysenvError."""
    return idmap.detect_full() if kind == "full" else idmap.single(os.getuid(), os.getgid())


def try_map(id_map: IdMap | None) -> None:
    """Make a namespace with an id map. Raises SysenvError."""
    namespace.run_inside(id_map, probe.nothing, "sysenv-ns-probe")
