"""Enters, joins and leaves namespaces; knows nothing of what gets mounted in them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import children, idmap, remedies, syscalls
from sysenv_ns.kernel.idmap import IdMap

# ioctl_nsfs(2): the user namespace that owns a namespace, and the parent of a user namespace
_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702


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


def look_inside(id_map: IdMap | None, function: Callable[[], object], name: str) -> object:
    """The result of a function in a child that has entered a namespace of the id map, and is still the user there.

    Raises what the function raises.
    """

    def inside() -> object:
        enter(id_map)
        return function()

    return children.call(inside, name)


def become_root() -> None:
    """Be uid and gid 0 of the namespace; supplementary groups stay, access to devices hangs on them."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def join(pid: int) -> None:
    """Enter the mount namespace of process `pid`, which puts this process at its root, and the user namespace of that.

    Not the process's own user namespace: it may be one made inside, without root. Raises OSError.
    """
    with open(f"/proc/{pid}/ns/mnt", "rb") as mounts:
        owner = fcntl.ioctl(mounts, _NS_GET_USERNS)
        try:
            if not _same(owner, "/proc/self/ns/user"):
                syscalls.setns(owner, syscalls.CLONE_NEWUSER)
            syscalls.setns(mounts.fileno(), syscalls.CLONE_NEWNS)
        finally:
            os.close(owner)


def is_of_a_session(thread: int, with_user_namespace: bool = True) -> bool:
    """Whether a thread's user namespace is one that the tool makes: a child of ours, or for real root our own.

    False for those that were made inside of it, and for a thread that is gone or not ours to look at.
    """
    try:
        with open(f"/proc/{thread}/ns/user", "rb") as stream:
            if not with_user_namespace:
                return _same(stream.fileno(), "/proc/self/ns/user")
            parent = fcntl.ioctl(stream, _NS_GET_PARENT)
    except OSError:
        return False
    try:
        return _same(parent, "/proc/self/ns/user")
    finally:
        os.close(parent)


def _same(descriptor: int, path: str) -> bool:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))


def pivot(root_fd: int) -> None:
    """Make the mount behind `root_fd` the root of this namespace and let go of the old one.

    pivot_root(2), section NOTES: with "." for both, the old root lands on top of the new one and is detached from
    there; no directory for it is needed. Not chroot(2): nobody could create a user namespace inside.
    """
    os.fchdir(root_fd)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
