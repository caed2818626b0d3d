"""Tries a driver for real, in a child and in a throwaway directory of the store; leaves nothing behind.

A setting can lie, and so can a version number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sysenv_ns.errors import NeedsRoot, SysenvError, UnfitStore, reason
from sysenv_ns.host.records import DIRECTORY, STUB
from sysenv_ns.kernel import children, emulation, namespace, remedies, removal, syscalls
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.operations import Operation, Overlay
from sysenv_ns.lower import mirror
from sysenv_ns.store import Store
from sysenv_ns.upper import fuse
from sysenv_ns.upper.fuse import FuseOverlay

_SIZE = 10_000  # bytes: more than a file that would be copied
_DATA = b"sysenv-ns\n" * (_SIZE // 10)
_HOST_FILE = "/bin/sh"
_HOST_DATABASE = "etc/passwd"


def try_driver(store: Store, driver: str, id_map: IdMap | None) -> None:
    """Do with a driver what an environment does. Raises SysenvError naming the stage that failed, and NeedsRoot."""
    if driver == "root" and os.geteuid() != 0:
        if remedies.is_unfit(store.path):  # for once foretold: trying would ask for a password
            raise UnfitStore("the driver root mounts an overlay too", remedies.unfit(store.path))
        raise NeedsRoot("the driver root needs to be run by root", "run it with sudo, or use another driver")
    if driver == "fuse":
        _need_fuse()
    path = removal.trash_path(store.trash, "probe")
    path.mkdir(mode=0o700)

    def inside() -> None:
        import shutil

        try:
            _PROBES[driver](path)
        finally:
            shutil.rmtree(path)  # here, where its files belong to root

    try:
        namespace.run_inside(id_map, inside, "sysenv-ns-probe")
    except OSError as error:
        stage = remedies.OVERLAY
        failure = UnfitStore if remedies.is_unfit(store.path) else SysenvError
        remedy = remedies.remedy(stage, error, store.path, driver)
        raise failure(f"{stage} failed: {reason(error)}", remedy) from error
    finally:
        if path.exists():  # there was no namespace to fill it in
            path.rmdir()


def try_emulation(id_map: IdMap) -> None:
    """Load the filter of the single map. Raises SysenvError."""
    emulated = emulation.Emulation("single")

    def inside() -> None:
        namespace.enter(id_map)
        emulated.load()

    children.call(inside, "sysenv-ns-probe")


def _need_fuse() -> None:
    fuse.program()
    try:
        os.close(os.open(fuse.DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise SysenvError(f"opening {fuse.DEVICE} failed: {reason(error)}", remedies.fuse_device(error)) from error


def _stub(path: Path) -> None:
    (path / "data").mkdir()
    (path / "data" / "file").write_bytes(_DATA)
    writer = mirror.Writer(str(path / "lower"))
    writer.add("", (DIRECTORY, "", 0o755, 0, 0, 0, None), [(STUB, "file", 0o644, 0, 0, 0, (_SIZE, "/file"))])
    _use(_overlay(path, data_roots=(str(path / "data"),)), path)


def _reflink(path: Path) -> None:
    with open(_HOST_FILE, "rb") as source, open(path / "shared", "wb") as target:
        shared = syscalls.clone_file(source.fileno(), target.fileno())
    if not shared:
        raise SysenvError(
            "the store cannot share data with the system's files (reflink)",
            "put the store on the same btrfs or xfs as /usr: set SYSENV_NS_HOME",
        )
    _copy(path)


def _copy(path: Path) -> None:
    _use(_overlay(path), path)


def _fuse(path: Path) -> None:
    lowers = (str(path / "lower"), "/")
    _use(FuseOverlay("/", "sysenv-ns:probe", lowers, str(path / "upper"), str(path / "work")), path)


def _root(path: Path) -> None:
    _use(_overlay(path, unprivileged=False), path)
    # In a user namespace the system's files may belong to nobody, and then cannot be changed.
    for name in ("upper", "work"):
        (path / f"system-{name}").mkdir()
    upper, work = str(path / "system-upper"), str(path / "system-work")
    mount = Overlay("/", "sysenv-ns:probe", ("/",), (), upper, work, unprivileged=False).prepare()
    try:
        os.close(os.open(_HOST_DATABASE, os.O_RDWR, dir_fd=mount))
    finally:
        os.close(mount)


_PROBES: dict[str, Callable[[Path], None]] = {
    "stub": _stub,
    "reflink": _reflink,
    "copy": _copy,
    "fuse": _fuse,
    "root": _root,
}


def _overlay(path: Path, data_roots: tuple[str, ...] = (), unprivileged: bool = True) -> Overlay:
    lowers, upper, work = (str(path / "lower"),), str(path / "upper"), str(path / "work")
    return Overlay("/", "sysenv-ns:probe", lowers, data_roots, upper, work, unprivileged)


def _use(overlay: Operation, path: Path) -> None:
    """Read a file of the lower through the overlay, write to it, and make a directory anew: that needs attributes."""
    for name in ("lower", "upper", "work"):
        (path / name).mkdir(exist_ok=True)
    (path / "lower" / "directory").mkdir()
    if not (path / "lower" / "file").exists():
        (path / "lower" / "file").write_bytes(_DATA)
    mount = overlay.prepare()
    assert mount is not None
    try:
        descriptor = os.open("file", os.O_RDWR, dir_fd=mount)
        found = os.pread(descriptor, 2 * _SIZE, 0)
        os.write(descriptor, b"changed")
        os.close(descriptor)
        if found != _DATA:
            raise SysenvError("a file of the base does not show its data here", "report this with `uname -a`")
        os.rmdir("directory", dir_fd=mount)
        os.mkdir("directory", dir_fd=mount)
    finally:
        os.close(mount)
