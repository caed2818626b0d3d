"""Finds out by trying which drivers and id maps work here; leaves nothing behind and changes nothing.

A setting can lie, so every stage is tried for real, in a child and in a throwaway directory of the store.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns import children, drivers, emulation, idmap, mirror, namespace, remedies, removal
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.idmap import IdMap
from sysenv_ns.operations import Overlay
from sysenv_ns.records import DIRECTORY, STUB
from sysenv_ns.store import Store

_SIZE = 10_000  # bytes: more than a file that would be copied
_DATA = b"sysenv-ns\n" * (_SIZE // 10)


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
    maps: list[IdMap] = []
    for kind in ("full", "single"):
        finding, id_map = _id_map(kind)
        findings.append(finding)
        if finding.works and id_map is not None:
            maps.append(id_map)
    findings.append(_try("root emulation", lambda: _emulation(maps)))
    working = {}
    for name in drivers.NAMES:
        finding = _try(f"driver {name}", lambda name=name: _driver(store, name, maps))  # type: ignore[misc]
        findings.append(finding)
        working[name] = finding.works
    preferred = ("root", "stub") if os.geteuid() == 0 else ("stub",)
    driver = next((name for name in preferred if working[name]), None)
    id_map_name = None if driver in (None, "root") else maps[0].kind
    return Diagnosis(tuple(findings), driver, id_map_name)


def choose(store: Store, driver: str, kind: str) -> tuple[str, IdMap | None]:
    """The driver and id map for a new environment, tried. Raises SysenvError with the stage that failed."""
    if driver == "auto":
        driver = "root" if os.geteuid() == 0 else "stub"
    drivers.get(driver)
    if driver == "root":
        if kind != "auto":
            raise SysenvError("the driver root has no id map: root inside is root outside", "leave out --id-map", 2)
        try_root(store)
        return driver, None
    if kind != "auto":
        id_map = idmap.detect_full() if kind == "full" else idmap.single(os.getuid(), os.getgid())
        try_stub(store, id_map)
        return driver, id_map
    try:
        id_map = idmap.detect_full()
        try_stub(store, id_map)
    except SysenvError:  # if it is not the id map that fails, the single one fails too and says why
        id_map = idmap.single(os.getuid(), os.getgid())
        try_stub(store, id_map)
    return driver, id_map


def try_stub(store: Store, id_map: IdMap) -> None:
    """Mount a stub over its data, read through it and write to it. Raises SysenvError naming the stage."""
    _in_throwaway(store, id_map, _probe_stub)


def try_root(store: Store) -> None:
    """Mount a plain overlay as real root. Raises SysenvError."""
    if os.geteuid() != 0:
        raise SysenvError("the driver root needs to be run by root", "run sysenv-ns with sudo")
    _in_throwaway(store, None, lambda path: _probe_overlay(path, unprivileged=False))


def _in_throwaway(store: Store, id_map: IdMap | None, probe: Callable[[Path], None]) -> None:
    path = removal.trash_path(store.trash, "probe")
    path.mkdir(mode=0o700)

    def inside() -> None:
        import shutil

        try:
            probe(path)
        except OSError as error:
            stage = remedies.OVERLAY
            raise SysenvError(f"{stage} failed: {reason(error)}", remedies.remedy(stage, error, store.path)) from error
        finally:
            shutil.rmtree(path)  # here, where its files belong to root

    try:
        namespace.run_inside(id_map, inside, "sysenv-ns-probe")
    finally:
        if path.exists():  # there was no namespace to fill it in
            path.rmdir()


def _probe_stub(path: Path) -> None:
    for name in ("data", "lower", "upper", "work"):
        (path / name).mkdir()
    (path / "data" / "file").write_bytes(_DATA)
    writer = mirror.Writer(str(path / "lower"))
    writer.add("", (DIRECTORY, "", 0o755, 0, 0, 0, None), [(STUB, "file", 0o644, 0, 0, 0, (_SIZE, "/file"))])
    _probe_overlay(path, unprivileged=True)


def _probe_overlay(path: Path, unprivileged: bool) -> None:
    for name in ("lower", "upper", "work"):
        (path / name).mkdir(exist_ok=True)
    roots = (str(path / "data"),) if unprivileged else ()
    overlay = Overlay(
        "/", "sysenv-ns:probe", (str(path / "lower"),), roots, str(path / "upper"), str(path / "work"), unprivileged
    )
    mount = overlay.prepare()
    try:
        if unprivileged:
            descriptor = os.open("file", os.O_RDWR, dir_fd=mount)
            if os.pread(descriptor, _SIZE, 0) != _DATA:
                raise SysenvError("a stub does not show its data here", "report this with `uname -a`")
            os.close(descriptor)
        os.mkdir("directory", dir_fd=mount)
    finally:
        os.close(mount)


def _id_map(kind: str) -> tuple[Finding, IdMap | None]:
    found: list[IdMap] = []

    def attempt() -> None:
        id_map = idmap.detect_full() if kind == "full" else idmap.single(os.getuid(), os.getgid())
        namespace.run_inside(id_map, lambda: None, "sysenv-ns-probe")
        found.append(id_map)

    finding = _try(f"id map {kind}", attempt)
    return finding, found[0] if found else None


def _emulation(maps: list[IdMap]) -> None:
    id_map = next((m for m in maps if m.kind == "single"), None)
    if id_map is None:
        raise SysenvError("not tried: it needs the single id map")
    emulated = emulation.Emulation("single")

    def inside() -> None:
        namespace.enter(id_map)
        emulated.load()

    children.call(inside, "sysenv-ns-probe")


def _driver(store: Store, name: str, maps: list[IdMap]) -> None:
    drivers.get(name)
    if name == "root":
        try_root(store)
    elif maps:
        try_stub(store, maps[0])
    else:
        raise SysenvError("not tried: it needs an id map")


def _try(subject: str, action: Callable[[], None]) -> Finding:
    try:
        action()
    except SysenvError as error:
        return Finding(subject, False, error.message, error.hint)
    except OSError as error:
        return Finding(subject, False, f"{error.filename or subject}: {reason(error)}")
    return Finding(subject, True)
