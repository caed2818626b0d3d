"""Enters, joins and leaves namespaces, and finds their owners; knows nothing of what is mounted in them."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import NoneType, opened, signal
from sysenv_ns.errors import Exhausted, SysenvError, is_exhausted, reason
from sysenv_ns.kernel import children, idmap, remedies, syscalls
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal, TypeAlias, TypeVar

    _T = TypeVar("_T")
    _Here = TypeVar("_Here")


# ioctl_nsfs(2): the user namespace that owns a namespace, the parent of a user namespace, and who made that one
_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702
_NS_GET_OWNER_UID = 0xB704
# linux/nsfs.h: the number of a mount namespace (Linux 6.11), of any namespace (Linux 6.18); none is ever used again
_NS_GET_MNTNS_ID = 0x8008B705
_NS_GET_ID = 0x8008B70D
_OWN_USER_NAMESPACE = "/proc/self/ns/user"

# Whose a mount namespace is, by the user namespace that owns it: this process's own; a child of that, made by this very
# user; one that was made inside such a child; or anything else, which others may have made to deceive.
Kin: TypeAlias = "Literal['own', 'child', 'descendant', 'foreign']"


def enter(id_map: IdMap | None, made: int | None = None) -> None:
    """Move this process to a new mount namespace and, unless `id_map` is None, a new user namespace.

    `made`: the descriptor of a user namespace that `make` has made with this full map; it is entered, and closed.
    The process keeps its ids (in the full map) and has every capability of the new namespace. Mounts of the host
    still propagate here, but ours do not reach the host (MS_SLAVE, mount_namespaces(7)).
    Raises SysenvError naming the stage that failed.
    """
    if id_map is not None and id_map.kind == "single":
        _stage(remedies.USER_NAMESPACE, lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))
        _stage(remedies.ID_MAP, lambda: idmap.install_own_single(id_map))
    elif id_map is not None:
        with opened(make_full(id_map) if made is None else made) as descriptor:
            _stage(remedies.USER_NAMESPACE, lambda: syscalls.setns(descriptor, syscalls.CLONE_NEWUSER))
    _stage(remedies.MOUNT_NAMESPACE, lambda: syscalls.unshare(syscalls.CLONE_NEWNS))
    _stage(
        remedies.PROPAGATION,
        lambda: syscalls.set_propagation("/", syscalls.MS_REC | syscalls.MS_SLAVE),
    )


def make_full(id_map: IdMap) -> int:
    """A new user namespace with this full map, as `make` gives it. Raises SysenvError, OSError."""
    return make(lambda pid: idmap.install_full(pid, id_map))


def make(install: Callable[[int], None]) -> int:
    """A new user namespace with nobody in it, as a descriptor. Raises SysenvError, OSError, and what `install` raises.

    `install` gives it its id map. It gets the number of a process inside, a child that does nothing else and then ends:
    newuidmap must be run from outside on such a one.
    """
    ready, ready_end = os.pipe()
    wait_end, go_on = os.pipe()

    def wait() -> None:
        os.close(go_on)
        _stage(remedies.USER_NAMESPACE, lambda: syscalls.unshare(syscalls.CLONE_NEWUSER))
        os.write(ready_end, b"1")
        os.read(wait_end, 1)

    # Where the caller ignores it, nobody learns how a child has ended.
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        child = children.Child(wait, "sysenv-ns-ids")
        os.close(ready_end)
        os.close(wait_end)
        try:
            if os.read(ready, 1):
                install(child.pid)
                descriptor = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(ready)
            os.close(go_on)
            child.wait(NoneType)  # raises what it has failed of
    finally:
        signal.signal(signal.SIGCHLD, before)
    return descriptor


def _stage(name: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        if is_exhausted(error) and error.errno != errno.ENOSPC:  # which is the limit of namespaces, a policy
            raise Exhausted(f"{name} failed: {reason(error)}", remedies.exhausted(error)) from error
        raise SysenvError(f"{name} failed: {reason(error)}", remedies.remedy(name, error)) from error


def call_inside(id_map: IdMap | None, function: Callable[[], _T], kind: type[_T], name: str) -> _T:
    """Run a function as root of a new namespace in a child; its result, of the type `kind`, or its error."""

    def inside() -> _T:
        enter(id_map)
        become_root()
        return function()

    return children.call(inside, kind, name)


def run_inside(id_map: IdMap | None, function: Callable[[], None], name: str) -> None:
    """The same for a function without a result."""
    call_inside(id_map, function, NoneType, name)


def look_inside(id_map: IdMap | None, function: Callable[[], _T], kind: type[_T], name: str) -> _T:
    """The same for a function that runs as the user there."""

    def inside() -> _T:
        enter(id_map)
        return function()

    return children.call(inside, kind, name)


def look_inside_while(
    id_map: IdMap | None,
    functions: Sequence[Callable[[], _T]],
    kind: type[_T],
    name: str,
    here: Callable[[], _Here],
) -> tuple[list[_T], _Here]:
    """The same for several functions at once, while this process calls another one; returns all results."""
    made = make_full(id_map) if id_map is not None and id_map.kind == "full" else None

    def inside(function: Callable[[], _T]) -> _T:
        enter(id_map, made)
        return function()

    def all_of(left: Sequence[Callable[[], _T]]) -> tuple[list[_T], _Here]:
        if not left:
            return [], here()
        first, (others, result) = children.beside(lambda: inside(left[0]), kind, name, lambda: all_of(left[1:]))
        return [first, *others], result

    try:
        return all_of(functions)
    finally:
        if made is not None:
            os.close(made)


def become_root() -> None:
    """Become uid and gid 0 of the namespace; supplementary groups stay, as access to devices depends on them."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


@dataclass(frozen=True)
class Mounts:
    """A mount namespace, held by a descriptor, so that the one that was checked is the one that is joined."""

    descriptor: int
    identity: int
    kin: Kin
    # Of the user namespace that owns it, or, for a descendant, of the child of ours that it descends from.
    user_namespace: int

    @classmethod
    def of(cls, pid: int) -> Mounts:
        """That of a process; `close` it. Raises OSError if the process is gone or may not be inspected."""
        descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kin, user_namespace = _kin(descriptor)
            return cls(descriptor, identity(descriptor), kin, user_namespace)
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)

    def has(self, pid: int) -> bool:
        """Whether a process is in it at this moment."""
        try:
            return _same(self.descriptor, f"/proc/{pid}/ns/mnt")
        except OSError:
            return False

    def join(self) -> None:
        """Enter it, at its root, and the user namespace that owns it. Raises OSError.

        Not the user namespace of a process in it, which may have made one of its own, without root.
        """
        children.forbid_tracing()
        with opened(fcntl.ioctl(self.descriptor, _NS_GET_USERNS)) as owner:
            if not _same(owner, _OWN_USER_NAMESPACE):
                syscalls.setns(owner, syscalls.CLONE_NEWUSER)
            syscalls.setns(self.descriptor, syscalls.CLONE_NEWNS)


def identity(descriptor: int) -> int:
    """A namespace's unique number if the kernel has one, else its inode, which is reused as soon as it is free.

    The same kernel always gives the same kind of number; after a reboot it may belong to another namespace.
    """
    for request in (_NS_GET_ID, _NS_GET_MNTNS_ID):
        number = bytearray(8)
        try:
            fcntl.ioctl(descriptor, request, number)
        except OSError:  # ENOTTY or EINVAL: an older kernel, or no mount namespace
            continue
        return int(struct.unpack("=Q", number)[0])
    return os.fstat(descriptor).st_ino


def identity_of_own(kind: Literal["mnt", "user"]) -> int:
    """The same of the namespace that this process is in."""
    with opened(os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) as descriptor:
        return identity(descriptor)


def _kin(mounts: int) -> tuple[Kin, int]:
    """Who a mount namespace belongs to, with the identity of the user namespace that shows it."""
    try:
        owner = fcntl.ioctl(mounts, _NS_GET_USERNS)
    except OSError:  # EPERM: it is outside of our own user namespace
        return "foreign", 0
    with opened(owner):
        if _same(owner, _OWN_USER_NAMESPACE):
            return "own", identity(owner)
        ancestor, generations = _child_of_ours(owner)
    if not generations:
        return "foreign", 0
    return ("child" if generations == 1 else "descendant"), ancestor


def _child_of_ours(user_namespace: int) -> tuple[int, int]:
    """The identity of the ancestor of a user namespace (or itself) that is a child of ours and that this user made, and
    how many generations it is from us; 0 generations for one that has no such ancestor.
    """
    current, generations = os.dup(user_namespace), 1
    try:
        while True:
            try:
                parent = fcntl.ioctl(current, _NS_GET_PARENT)
            except OSError:  # EPERM: there is none in our sight
                return 0, 0
            if _same(parent, _OWN_USER_NAMESPACE):
                os.close(parent)
                return (identity(current), generations) if _maker(current) == os.geteuid() else (0, 0)
            os.close(current)
            current, generations = parent, generations + 1
    finally:
        os.close(current)


def _maker(user_namespace: int) -> int:
    """The effective uid of the process that made a user namespace."""
    uid = bytearray(4)
    fcntl.ioctl(user_namespace, _NS_GET_OWNER_UID, uid)
    return int(struct.unpack("=I", uid)[0])


def is_of_a_session(thread: int) -> bool:
    """Whether a thread's user namespace was made by the tool for a session: a child of ours, made by this user.

    False for those that were made inside it, and for a thread that is gone or may not be inspected.
    """
    try:
        descriptor = os.open(f"/proc/{thread}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    with opened(descriptor):
        return _child_of_ours(descriptor)[1] == 1


def _same(descriptor: int, path: str) -> bool:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))


def pivot(root_fd: int) -> None:
    """Make the mount behind `root_fd` the root of this namespace and detach the old one.

    pivot_root(2), section NOTES: with "." for both, the old root lands on top of the new one and is detached from
    there; no directory is needed for it. Not chroot(2): user namespaces could not be created inside.
    """
    os.fchdir(root_fd)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")
