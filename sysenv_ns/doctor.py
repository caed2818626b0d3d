"""Finds out by trying which drivers and id maps work here, and chooses; changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sysenv_ns import policy, probes, sudo
from sysenv_ns.errors import NeedsRoot, SysenvError, UnfitStore, reason
from sysenv_ns.kernel import idmap, namespace
from sysenv_ns.kernel.idmap import IdMap, Kind
from sysenv_ns.store import Store

_KINDS: tuple[Kind, ...] = ("full", "single")


@dataclass(frozen=True)
class Finding:
    """Whether something works here; if not, what failed and what to do."""

    subject: str
    works: bool
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and the driver and id map that a new environment gets (None when there can be none)."""

    findings: tuple[Finding, ...]
    driver: str | None
    id_map: str | None


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
    works = {name for name, finding in tried if finding.works}
    driver = next((name for name in _preferred() if name in works), None) if working["store"] else None
    kind_found = None if driver is None else next((kind for kind in _kinds(driver) if kind in maps), None)
    return Diagnosis((*findings, *(finding for _, finding in tried)), driver, kind_found)


def choose(store: Store, driver: str, kind: str) -> tuple[str, IdMap | None]:
    """The driver and id map for a new environment, tried; either may be "auto".

    Raises SysenvError with the first stage that failed, and NeedsRoot when only the driver root is left.
    """
    failures: list[SysenvError] = []
    for name, id_map_kind in _candidates(driver, kind):
        try:
            id_map = _id_map(id_map_kind) if id_map_kind else None
            probes.try_driver(store, name, id_map)
        except SysenvError as error:
            failures.append(error)
        else:
            return name, id_map
    raise _none_works(failures)


def _none_works(failures: list[SysenvError]) -> SysenvError:
    """One error for all that was tried."""
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
    """What is tried for a new environment, in order."""
    for name in _preferred() if driver == "auto" else (driver,):
        kinds = _kinds(name)
        if kind == "auto":
            yield from ((name, possible) for possible in kinds or (None,))
        elif kind in kinds:
            yield from ((name, possible) for possible in kinds if possible == kind)
        elif driver == "root":
            raise SysenvError("the driver root has no id map: root inside is root outside", "leave out --id-map", 2)
        elif driver != "auto":
            raise SysenvError(
                f"the driver {driver} shows all files as root's: it has no {kind} id map", "use --id-map single", 2
            )


def _preferred() -> tuple[str, ...]:
    """The drivers that are chosen by themselves, the best first."""
    names = [name for name in policy.DRIVERS if name != "copy"]
    # Root needs none of what the others do to be without it.
    return tuple(sorted(names, key=lambda name: name != "root")) if os.geteuid() == 0 else tuple(names)


def _kinds(driver: str) -> tuple[Kind, ...]:
    """The id maps that a driver can have, the best first."""
    return {"root": (), "fuse": _KINDS[1:]}.get(driver, _KINDS)


def _id_map(kind: Kind) -> IdMap:
    """The caller's id map of that kind, tried. Raises SysenvError."""
    id_map = idmap.detect_full() if kind == "full" else idmap.single(os.getuid(), os.getgid())
    namespace.run_inside(id_map, lambda: None, "sysenv-ns-probe")
    return id_map


def _emulation(id_map: IdMap | None) -> None:
    if id_map is None:
        raise SysenvError("not tried: it needs the single id map")
    probes.try_emulation(id_map)


def _driver(store: Store, name: str, maps: dict[Kind, IdMap]) -> None:
    kinds = _kinds(name)
    if kinds and not maps:
        raise SysenvError("not tried: it needs an id map")
    try:
        probes.try_driver(store, name, next((maps[kind] for kind in kinds if kind in maps), None))
    except NeedsRoot:
        sudo.check()


def _try(subject: str, action: Callable[[], None]) -> Finding:
    try:
        action()
    except SysenvError as error:
        return Finding(subject, False, error.message, error.hint)
    except OSError as error:
        return Finding(subject, False, f"{error.filename or subject}: {reason(error)}")
    return Finding(subject, True)
