"""Enters, joins and leaves namespaces; knows nothing of what gets mounted in them."""

from __future__ import annotations

import os
from collections.abc import Callable

from sysenv_ns import children, idmap, remedies, syscalls
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.idmap import IdMap


def enter(id_map: IdMap | None) -> None:
    """Move this process into a new mount namespace and, unless `id_map` is None, a new user namespace.

    The process keeps its ids (in the full map) and has every capability of the new namespace. Mounts of the host
    keep arriving here, none of ours reaches the host (MS_SLAVE, mount_namespaces(7)).
    Raises SysenvError naming the stage that failed.
    """
    if id_map is None:
        _stage(remedies.MOUNT_NAMESPACE, lambda: syscalls.unshare(syscalls.CLONE_NEWNS))
    elif id_map.kind == "single":
        _stage(remedies.USER_NAMESPACE, lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))
        _stage(remedies.ID_MAP, lambda: idmap.install_own_single(id_map))
        _stage(remedies.MOUNT_NAMESPACE, lambda: syscalls.unshare(syscalls.CLONE_NEWNS))
    else:
        _enter_full(id_map)
        _stage(remedies.MOUNT_NAMESPACE, lambda: syscalls.unshare(syscalls.CLONE_NEWNS))
    _stage(
        remedies.PROPAGATION,
        lambda: syscalls.set_propagation("/", syscalls.MS_REC | syscalls.MS_SLAVE),
    )


def _enter_full(id_map: IdMap) -> None:
    """newuidmap must be run from outside the new namespace on a process inside: a helper waits there for us."""
    pid = os.getpid()
    wait_end, go_end = os.pipe()

    def install() -> None:
        os.close(go_end)
        if os.read(wait_end, 1):
            idmap.install_full(pid, id_map)

    helper = children.Child(install, "sysenv-ns-ids")
    os.close(wait_end)
    try:
        _stage(remedies.USER_NAMESPACE, lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))
        os.write(go_end, b"1")
    finally:
        os.close(go_end)
        helper.wait()


def _stage(name: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise SysenvError(f"{name} failed: {reason(error)}", remedies.remedy(name, error)) from error


def run_inside(id_map: IdMap | None, function: Callable[[], object], name: str) -> object:
    """Run `function` as root of a new namespace in a child and return its result."""

    def inside() -> object:
        enter(id_map)
        become_root()
        return function()

    return children.call(inside, name)


def become_root() -> None:
    """Be uid and gid 0 of the namespace; supplementary groups stay, access to devices hangs on them."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def join(pid: int, with_user_namespace: bool) -> None:
    """Enter the namespaces of process `pid`, which puts this process at its root. Raises OSError."""
    flags = syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWUSER if with_user_namespace else 0)
    pidfd = os.pidfd_open(pid)
    try:
        syscalls.setns(pidfd, flags)
    finally:
        os.close(pidfd)


def pivot(root_fd: int) -> None:
    """Make the mount behind `root_fd` the root of this namespace and let go of the old one.

    pivot_root(2), section NOTES: with "." for both, the old root lands on top of the new one and is detached from
    there; no directory for it is needed. Not chroot(2): nobody could create a user namespace inside.
    """
    os.fchdir(root_fd)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
