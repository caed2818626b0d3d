"""How the supervisor answers each call that is left to it, for a caller that waits; knows nothing of its process.

A plan is made of the call as the caller's memory has it, and carried out by a process that has become like the caller.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.kernel import moves, namespace, syscalls, unotify
from sysenv_ns.kernel.caller import CallingThread
from sysenv_ns.kernel.looker import Looker
from sysenv_ns.kernel.unotify import Notification
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

Calls: TypeAlias = "Mapping[tuple[int, int], str]"  # by architecture and number

_CAP_SYS_CHROOT, _CAP_SYS_ADMIN, _CAP_MKNOD = 18, 21, 27
_PATH_MAX = 4096
_SHORT = 128  # bytes that are read first: most paths are shorter
_XATTR_NAME_MAX = 255
_XATTR_SIZE_MAX = 65536  # linux/limits.h
_ACL_NAMES = (b"system.posix_acl_access", b"system.posix_acl_default")
_ACL_HEADER = struct.Struct("=I")
_ACL_ENTRY = struct.Struct("=HHI")
_ACL_NAMED = (0x02, 0x08)  # ACL_USER and ACL_GROUP of linux/posix_acl.h
_RENAME_NOREPLACE = 1
_AT_SYMLINK_FOLLOW = 0x400
VISIT = b"sysenv-ns-host"  # the name that visits.py has
_PASSING = b".dpkg-tmp"  # such a name lives for a moment only, in which nobody compares it: dpkg makes thousands

Serve: TypeAlias = "Callable[[int], None]"  # a socket, in a process of its own
# 0 or an errno; or None: the kernel shall do it now; or what is to be done once the kernel has been told to.
Answer: TypeAlias = "int | Callable[[], None] | None"
# Raises OSError when it could not be tried.
Action: TypeAlias = "Callable[[CallingThread], Answer]"
Visit: TypeAlias = "Callable[[int, CallingThread], int]"  # of the number of a socket


@dataclass(frozen=True)
class UpperNames:
    """What it needs to know of an environment to answer calls about names."""

    upper: int  # a descriptor of the upper directory, shaped like /
    looker: Looker

    @classmethod
    def of(cls, changes: Path, listener: int) -> UpperNames:
        """Raises OSError."""
        upper = os.open(changes, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return cls(upper, Looker(upper, listener))


def plan(call: Notification, calls: Calls, names: UpperNames | None, visit: Visit | None = None) -> Action | None:
    """The action for a caller, or None to let the kernel continue, which refuses in most cases."""
    name = calls.get((call.architecture, call.number), "")
    try:
        # First of all: memory and names of who made a namespace inside can be of a file system of its own, which never
        # answers, and all others would wait with it.
        if not namespace.is_of_a_session(call.thread):
            return None
        if name.startswith(("rename", "link")):
            return _plan_name(name, call, names) if names else None
        if name.startswith("mknod"):
            return _plan_node(name, call, visit)
        if name.endswith("setxattr"):
            return _plan_acl(name, call)
        return _plan_chroot(call) if name == "chroot" else _plan_furniture(name, call)
    except (OSError, ValueError, ImportError):  # ImportError: the tool is being upgraded
        return None


def _plan_node(name: str, call: Notification, visit: Visit | None) -> Action:
    """Create the node, or if the kernel does not allow it an empty file with its name, mode and owner."""
    path_at, mode, device = call.arguments[1:4] if name == "mknodat" else call.arguments[:3]
    path, mode, device = _string(call.thread, path_at, _PATH_MAX), mode & 0xFFFF, device & 0xFFFFFFFF
    if name == "mknodat" and path == VISIT and visit is not None:
        number = call.arguments[0] & 0xFFFFFFFF
        return lambda caller: visit(number, caller)
    relative = name == "mknodat" and not path.startswith(b"/")
    directory = _directory(call.arguments[0]) if relative else "cwd"

    def make(caller: CallingThread) -> int:
        if not caller.has(_CAP_MKNOD):
            return errno.EPERM
        caller.enter(directory)
        failure = _errno(lambda: os.mknod(path, mode, device))
        if failure != errno.EPERM:
            return failure
        return _errno(lambda: os.mknod(path, stat.S_IFREG | stat.S_IMODE(mode)))

    return make


def visits_by(serve: Serve, session: tuple[int, ...]) -> Visit:
    """Lets a caller's descriptor be served, if it may ask for that; 0 or an errno. Raises OSError.

    `session`: the inodes of its namespaces, see visits.py.
    """

    def visit(number: int, caller: CallingThread) -> int:
        from sysenv_ns.kernel import visits  # for the few who ask

        return visits.accept(caller.pidfd, caller.proc, number, session, caller.check, serve)

    return visit


def _plan_chroot(call: Notification) -> Action | None:
    """The kernel does it, in a directory that has device nodes by then."""
    path = _string(call.thread, call.arguments[0], _PATH_MAX)
    if path == b"/":
        return None
    from sysenv_ns.kernel import chroots  # for the few who do it; here, where the root is still the host's

    def prepare(caller: CallingThread) -> Callable[[], None] | None:
        if not caller.has(_CAP_SYS_CHROOT, _CAP_SYS_ADMIN):
            return None
        pid = caller.process()
        processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        caller.enter("cwd")
        return chroots.furnish(path, pid, processes)

    return prepare


def _plan_furniture(name: str, call: Notification) -> Action | None:
    """What root of a user namespace is refused where it furnishes another root (binds.py)."""
    from sysenv_ns.kernel import binds  # for the few who do it; here, where the root is still the host's

    plan = binds.PLANS.get(name)
    wanted = plan(call.arguments, lambda address: _string(call.thread, address, _PATH_MAX)) if plan else None
    if wanted is None:
        return None

    def furnish(caller: CallingThread) -> int | None:
        if not caller.has(_CAP_SYS_ADMIN) or not all(map(caller.shares, wanted.namespaces)):
            return None
        itself, devices = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY), binds.devices()
        caller.enter_namespaces()
        sight = binds.look_around(itself, devices)
        caller.become("cwd")
        return wanted.carry_out(sight)

    return furnish


def _plan_name(name: str, call: Notification, names: UpperNames) -> Action | None:
    """Calls that need more than the kernel does: rename(2) of a directory, link(2) to a file of a lower layer."""
    if name in ("rename", "link"):
        (old_at, new_at), old_base, new_base, flags = call.arguments[:2], syscalls.AT_FDCWD, syscalls.AT_FDCWD, 0
    else:
        old_base, old_at, new_base, new_at, flags = call.arguments[:5]
    flags = 0 if name == "renameat" else flags & 0xFFFFFFFF
    old_directory, new_directory = _directory(old_base), _directory(new_base)
    old = _string(call.thread, old_at, _PATH_MAX)
    if name.startswith("rename"):
        if flags & ~_RENAME_NOREPLACE or not names.looker.is_directory(call.thread, old_directory, old):
            return None
        new = _string(call.thread, new_at, _PATH_MAX)
        return lambda caller: moves.rename_directory(old, new, caller.enter(old_directory, new_directory))
    if flags & ~_AT_SYMLINK_FOLLOW or _string(call.thread, new_at, _PATH_MAX).endswith(_PASSING):
        return None
    if not names.looker.is_lower_file(call.thread, old_directory, old):
        return None

    def link(caller: CallingThread) -> None:
        caller.enter(old_directory)
        moves.separate(old, names.upper)

    return link


def _errno(action: Callable[[], None]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _directory(descriptor: int) -> str:
    """The directory argument of a call, as a path below the caller's /proc."""
    number = descriptor & 0xFFFFFFFF
    return "cwd" if number == syscalls.AT_FDCWD & 0xFFFFFFFF else f"fd/{number}"


def _plan_acl(name: str, call: Notification) -> Action | None:
    """Set an access control list without the entries for users and groups that do not exist in the single map."""
    file_at, attribute_at, value_at, size, flags = call.arguments[:5]
    attribute = _string(call.thread, attribute_at, _XATTR_NAME_MAX + 1)
    if attribute not in _ACL_NAMES or not 0 < size <= _XATTR_SIZE_MAX:
        return None
    value = unotify.process_vm_readv(call.thread, value_at, size)
    kept = possible_acl(value)
    if kept == value or len(value) < size:
        return None
    path = b"" if name == "fsetxattr" else _string(call.thread, file_at, _PATH_MAX)

    def apply(caller: CallingThread) -> int:
        if name == "fsetxattr":
            file: str | bytes = caller.descriptor(file_at & 0xFFFFFFFF)
        else:
            caller.enter("cwd")
            file = path
        return _errno(lambda: os.setxattr(file, attribute, kept, flags, follow_symlinks=name != "lsetxattr"))

    return apply


def _string(thread: int, address: int, limit: int) -> bytes:
    """The string at an address of a thread. Raises ValueError if it has no end, OSError."""
    for length in (min(_SHORT, limit), limit):
        text, end, _ = unotify.process_vm_readv(thread, address, length).partition(b"\0")
        if end:
            return text
    raise ValueError(address)


def possible_acl(value: bytes) -> bytes:
    """An access control list in kernel form, without entries for users other than root. Raises ValueError."""
    header, entries = value[: _ACL_HEADER.size], value[_ACL_HEADER.size :]
    if len(entries) % _ACL_ENTRY.size:
        raise ValueError(value)
    kept = (entry for entry in _ACL_ENTRY.iter_unpack(entries) if entry[0] not in _ACL_NAMED or entry[2] == 0)
    return header + b"".join(_ACL_ENTRY.pack(*entry) for entry in kept)
