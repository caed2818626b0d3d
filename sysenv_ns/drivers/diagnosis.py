"""Finds out which drivers and id maps, and what else, works on this machine; changes nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from sysenv_ns import policy, sudo, text
from sysenv_ns.drivers import choose, probe
from sysenv_ns.drivers import driver as drivers
from sysenv_ns.environment import layers, transaction
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import Declined, NeedsRoot, SysenvError, reason
from sysenv_ns.files import sizes
from sysenv_ns.kernel import idmap, namespace, remedies
from sysenv_ns.kernel.idmap import IdMap, Kind

_HTTP = 80
_KINDS: tuple[Kind, ...] = ("full", "single")


@dataclass(frozen=True)
class Finding:
    """Whether something works here; if not, what failed and what to do. If it works, the detail is a caveat."""

    subject: str
    works: bool
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and the driver and id map for new environments (None if none works)."""

    findings: tuple[Finding, ...]
    driver: str | None
    id_map: str | None
    asks: tuple[str, ...] = ()  # better drivers, which are used if the user says yes


def diagnose(store: Store) -> Diagnosis:
    """Try everything."""
    findings = [_try("store", store.prepare)]
    maps: dict[Kind, IdMap] = {}
    for kind in _KINDS:
        findings.append(_try(f"id map {kind}", lambda kind=kind: maps.update({kind: _id_map(kind)})))  # type: ignore[misc]
    findings.append(_try("root emulation", lambda: _emulation(maps.get("single"))))
    if os.geteuid() != 0:
        findings.append(_try("sudo", sudo.check))
    working = {finding.subject: finding.works for finding in findings}
    tried = [(name, _try(f"driver {name}", lambda name=name: _driver(store, name, maps))) for name in policy.DRIVERS]  # type: ignore[misc]
    driver, asks = _chosen(store, dict(tried)) if working["store"] else (None, ())
    kind_found = None if driver is None else next((kind for kind in policy.DRIVERS[driver] if kind in maps), None)
    findings += [*(finding for _, finding in tried), _low_ports(), _try("trash", lambda: _trash(store))]
    if store.all_removed():
        findings.append(_try("removed", lambda: _removed(store)))
    return Diagnosis(tuple(findings), driver, kind_found, asks)


def _chosen(store: Store, tried: dict[str, Finding]) -> tuple[str | None, tuple[str, ...]]:
    """The driver that is used without a question, None if there is none; and those that are asked about before."""
    asks: list[str] = []
    for name in choose.preferred():
        own = drivers.get(name)
        try:
            if own.asks and os.geteuid() != 0:
                own.agree(store, None, by_name=False)
        except Declined as declined:
            if tried[name].works or tried[name].remedy == declined.hint:  # the consent is all that it lacks
                asks.append(name)
        except SysenvError:
            continue
        else:
            if tried[name].works:
                return name, tuple(asks)
    return None, tuple(asks)


def _emulation(id_map: IdMap | None) -> None:
    if id_map is None:
        raise SysenvError("not tried: it needs the single id map")
    probe.try_emulation(id_map)


def _low_ports() -> Finding:
    """A user namespace with the host's network has no rights over it, so only the setting decides."""
    first = remedies.first_open_port()
    detail = f"those below {first} are reserved for the host's root"
    return Finding("low ports", first <= _HTTP, *(() if first <= _HTTP else (detail, remedies.LOW_PORTS)))


def _trash(store: Store) -> None:
    """Raise SysenvError for what interrupted commands have left; perhaps only root can delete it."""
    if found := transaction.abandoned(store.trash):
        size = namespace.call_inside(idmap.widest(), lambda: sum(map(sizes.on_disk, found)), int, "sysenv-ns-trash")
        names = " ".join(map(shlex.quote, map(str, found)))
        raise SysenvError(
            f"interrupted commands have left {size / 1e6:.0f} MB in {store.trash}",
            f"the next command deletes it; what it cannot delete: sudo rm -r {names}",
        )


def _removed(store: Store) -> str:
    """What removed environments take, which is easily forgotten."""
    number, size = len(store.all_removed()), layers.size_of_removed(store)
    return (
        f"{text.count(number, 'environment')} ({text.size(size)}) can be restored: sysenv-ns list --removed; "
        "sysenv-ns remove --purge deletes what was removed"
    )


def _driver(store: Store, name: str, maps: dict[Kind, IdMap]) -> str:
    probe.try_kernel()
    kinds = policy.DRIVERS[name]
    if kinds and not maps.keys() & {*kinds}:
        raise SysenvError(f"not tried: it needs {f'the id map {kinds[0]}' if len(kinds) == 1 else 'an id map'}")
    try:
        probe.try_driver(store, drivers.get(name), next((maps[kind] for kind in kinds if kind in maps), None))
    except NeedsRoot:
        return f"sudo {said}" if (said := sudo.check()) else ""
    return ""


def _try(subject: str, action: Callable[[], str | None]) -> Finding:
    try:
        reservation = action() or ""
    except SysenvError as error:
        return Finding(subject, False, error.message, error.hint)
    except OSError as error:
        return Finding(subject, False, f"{error.filename or subject}: {reason(error)}")
    return Finding(subject, True, reservation)


def _id_map(kind: Kind) -> IdMap:
    """The caller's id map of that kind, tried. Raises SysenvError."""
    id_map = choose.id_map_of(kind)
    choose.try_map(id_map)
    return id_map
