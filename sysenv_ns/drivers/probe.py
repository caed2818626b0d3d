"""Tries a driver for real, in a child and in a throwaway directory of the store; leaves nothing behind.

Settings and version numbers can mislead.
"""

from __future__ import annotations

import errno
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened
from sysenv_ns.drivers.driver import Driver
from sysenv_ns.environment import transaction
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import Exhausted, SysenvError, UnfitStore, is_exhausted, reason
from sysenv_ns.files import removal
from sysenv_ns.kernel import children, namespace, remedies, syscalls
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.overlay import Overlay, UnionMount
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = "sysenv-ns:probe"
_NO_MOUNT = -1
DATA = b"sysenv-ns\n" * 1000  # more than a file that would be copied


def try_store(store: Store) -> None:
    """Write a file, which every driver needs. Raises OSError."""
    path = transaction.trash_path(store.trash, "probe")
    try:
        path.write_bytes(DATA)
    finally:
        path.unlink(missing_ok=True)


def try_kernel() -> None:
    """Try the newest system call that every session needs. Raises SysenvError if the kernel does not have it."""
    try:
        syscalls.mount_setattr(_NO_MOUNT, "", 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:  # all others come from the call itself
            hint = f"use Linux 5.12 or later (this is {os.uname().release}); a seccomp filter may also hide the call"
            raise SysenvError("this kernel is too old: it has no mount_setattr(2)", hint) from error


def nothing() -> None:
    """What is done if there is nothing to be done."""


def try_driver(store: Store, driver: Driver, id_map: IdMap | None, then: Callable[[], None] = nothing) -> None:
    """Do with a driver what an environment does, and `then` in the same namespace what needs one, if that has worked.

    Raises SysenvError with the failed stage, and NeedsRoot; what `then` raises must be no OSError.
    """
    driver.require(store)
    path = transaction.trash_path(store.trash, "probe")
    path.mkdir(mode=0o700)

    def inside() -> None:
        try:
            driver.probe(path)
        finally:
            removal.delete(path)  # here, where its files belong to root
        then()

    try:
        namespace.run_inside(id_map, inside, "sysenv-ns-probe")
    except OSError as error:
        # EIO is what overlayfs says where it cannot do something; of the disk, try_store would have said it.
        if is_exhausted(error) and error.errno != errno.EIO:
            raise Exhausted(
                f"trying the driver {driver.name} failed: {reason(error)}", remedies.storage(error, store.path)
            ) from error
        failure = UnfitStore if remedies.is_unfit(store.path) else SysenvError
        remedy = remedies.remedy(remedies.OVERLAY, error, store.path, driver.remedy(error))
        raise failure(f"{remedies.OVERLAY} failed: {reason(error)}", remedy) from error
    finally:
        if path.exists():  # there was no namespace to fill it in
            path.rmdir()


def try_emulation(id_map: IdMap) -> None:
    """Load the filter of the single map. Raises SysenvError."""
    from sysenv_ns.kernel import emulation

    emulated = emulation.Emulation(id_map)

    def inside() -> None:
        namespace.enter(id_map)
        emulated.load()

    children.run(inside, "sysenv-ns-probe")


def overlay(path: Path, data_roots: tuple[str, ...] = (), unprivileged: bool = True) -> Overlay:
    """An overlay of directories in the throwaway one."""
    lowers, upper, work = (str(path / "lower"),), str(path / "upper"), str(path / "work")
    return Overlay("/", SOURCE, lowers, upper, work, data_roots, unprivileged)


def use(mount_of: UnionMount, path: Path) -> None:
    """Read a file of the lower through the overlay, write to it, and replace a directory, which needs attributes."""
    for name in ("lower", "upper", "work"):
        (path / name).mkdir(exist_ok=True)
    (path / "lower" / "directory").mkdir()
    if not (path / "lower" / "file").exists():
        (path / "lower" / "file").write_bytes(DATA)
    with opened(mount_of.prepare()) as mount:
        descriptor = os.open("file", os.O_RDWR, dir_fd=mount)
        found = os.pread(descriptor, 2 * len(DATA), 0)
        os.write(descriptor, b"changed")
        os.close(descriptor)
        if found != DATA:
            raise SysenvError("a file of the base does not show its content here", "report this with `uname -a`")
        os.rmdir("directory", dir_fd=mount)
        os.mkdir("directory", dir_fd=mount)
