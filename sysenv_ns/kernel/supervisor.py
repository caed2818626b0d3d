"""Answers the system calls that a filter cannot decide alone: device nodes, names in lower layers, and access control
lists in the single map; and prepares what is about to become a root (chroots.py).

A process beside the session, which the kernel asks while the calling thread waits (seccomp_unotify(2)). It stays on
the host's side of all namespaces, so it holds no mount and keeps no environment running, and it ends with the last
process under the filter. It acts for a caller with the caller's identity and capabilities, in the caller's root.
It also syncs what the session changes (writeback.py).
"""

from __future__ import annotations

import _socket  # only the C half: the other takes a start's time to import
import errno
import gc
import os
import select
import stat
import struct

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import Protocol, signal, suppress
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import children, moves, namespace, syscalls
from sysenv_ns.kernel.looker import Looker
from sysenv_ns.kernel.syscalls import Notification
from sysenv_ns.kernel.writeback import INTERVAL, Writeback
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias, TypeVar

    _T = TypeVar("_T")

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
_VISIT = b"sysenv-ns-host"  # the name that visits.py has
_PASSING = b".dpkg-tmp"  # such a name lives for a moment only, in which nobody compares it: dpkg makes thousands
_NUMBER = 20  # digits of an inode, at most
_PIDFD_THREAD = os.O_EXCL  # pidfd_open(2), Linux 6.9

_DIRECTORY = os.O_PATH | os.O_DIRECTORY

Serve: TypeAlias = "Callable[[int], None]"  # a socket, in a process of its own


class Watch(Protocol):
    """Something else that the process watches, on the host's side, as long as it lives."""

    def open(self) -> int | None:
        """A descriptor that is readable when there is something to do; None for never. Raises OSError."""

    def handle(self) -> None:
        """Do it, quickly. Raises OSError."""


class Supervisor:
    """The process, waiting for the listener of a filter; without one it ends together with this object's process."""

    def __init__(
        self, calls: Calls, changes: Path | None = None, watch: Watch | None = None, visitors: Serve | None = None
    ) -> None:
        """`changes`: the upper directory of the overlay over /, if changes are to survive a power cut.

        `visitors`: serves, in a process of its own, programs inside that run as the user (visits.py).
        """
        self._socket, theirs = _socket.socketpair()
        self._starter = children.start_detached(lambda: _serve(theirs, calls, changes, watch, visitors))
        theirs.close()

    def wait(self) -> None:
        """Wait until it has started, before anything depends on it. Raises SysenvError."""
        if children.reap(self._starter):
            raise SysenvError("the system call supervisor cannot be started", "end some of your processes")

    def hand_over(self, listener: int) -> None:
        """Let it answer calls at `listener`, which is closed here. Raises SysenvError if it has ended."""
        rights = struct.pack("i", listener)
        try:
            # So it knows the mounts of the session, without holding them.
            mounts = os.stat("/proc/self/ns/mnt").st_ino
            self._socket.sendmsg([str(mounts).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        except OSError as error:
            raise SysenvError(f"the system call supervisor has ended: {reason(error)}", "try again") from error
        finally:
            self._socket.close()
            os.close(listener)


def _serve(
    connection: _socket.socket, calls: Calls, changes: Path | None, watch: Watch | None, visitors: Serve | None
) -> None:
    gc.freeze()  # what it shares with the session shall stay shared
    gc.enable()
    children.leave_session({connection.fileno()}, "sysenv-ns-calls")
    mounts, ancillary, _, _ = connection.recvmsg(_NUMBER, _socket.CMSG_SPACE(4))
    connection.close()
    if not ancillary:  # the session failed before it came to its command
        return
    (listener,) = struct.unpack("i", ancillary[0][2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    watched = watch.open() if watch is not None else None
    if watched is not None:
        poll.register(watched, select.POLLIN)
    writeback = _opened(lambda: Writeback(changes.parent)) if changes else None
    names = _opened(lambda: _UpperNames.of(changes, listener)) if changes else None
    visit = _visits(visitors, int(mounts)) if visitors else None
    while True:
        ready = dict(poll.poll(int(INTERVAL * 1000) if writeback else None))
        with suppress(OSError):  # the limit of processes, or a disk that fails: the next time, perhaps
            if writeback:
                writeback.due()
            if watch is not None and watched in ready:
                watch.handle()
        if listener not in ready:
            continue
        if not ready[listener] & select.POLLIN:  # POLLHUP: no process is under the filter any more
            return
        try:
            call = syscalls.seccomp_receive(listener)
            action = _plan(call, calls, names, visit)
            if action is None:
                syscalls.seccomp_respond(listener, call.ident, None)
            else:
                _act(listener, call, action)
        except OSError:  # its thread was killed meanwhile
            continue


def _opened(opener: Callable[[], _T]) -> _T | None:
    try:
        return opener()
    except OSError:
        return None


def _act(listener: int, call: Notification, action: _Action) -> None:
    """In a worker: a caller that waits, for a slow file system for example, must not delay the others."""
    try:
        worker = os.fork()
    except OSError:
        worker = -1
    if worker > 0:
        return
    answer: _Answer = None
    try:
        if worker == 0:
            children.forbid_tracing()  # by who is in the namespaces that it enters
            answer = action(_Waiter.of(listener, call))
    except OSError:  # it could not become the caller: the kernel shall refuse it
        pass
    finally:
        try:
            syscalls.seccomp_respond(listener, call.ident, answer if isinstance(answer, int) else None)
            if callable(answer):
                os.close(listener)
                answer()
        finally:
            if worker == 0:
                os._exit(0)


@dataclass(frozen=True)
class _Waiter:
    """A thread that waits for an answer, held so that no other one can be taken for it."""

    pidfd: int
    proc: int  # its directory in the host's /proc
    check: Callable[[], None]  # raises OSError when it does not wait any more

    @classmethod
    def of(cls, listener: int, call: Notification) -> _Waiter:
        """Raises OSError if it no longer waits."""
        try:
            pidfd = os.pidfd_open(call.thread, _PIDFD_THREAD)
        except OSError:  # an older kernel, which has descriptors for processes only
            pidfd = os.pidfd_open(call.thread)
        proc = os.open(f"/proc/{call.thread}", os.O_PATH | os.O_DIRECTORY)

        def check() -> None:
            syscalls.seccomp_check(listener, call.ident)

        check()  # both are the caller's from here on
        own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
        if _status(proc)["NoNewPrivs"] != _status(own)["NoNewPrivs"]:
            # It has confined itself, for example by Landlock, which nobody can do for it.
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return cls(pidfd, proc, check)

    def enter(self, directory: str, other: str = "cwd") -> int:
        """Become like the caller, in its namespaces and root, in `directory` of its /proc. Raises OSError.

        Returns a descriptor of `other`; "/" is the root of the caller's mount namespace.
        """
        self._enter_user_namespace()  # first of all: only root there may look into /proc/PID/fd
        beside = os.open(other, _DIRECTORY, dir_fd=self.proc)
        base = os.open(directory, _DIRECTORY, dir_fd=self.proc)
        root = os.open("root", _DIRECTORY, dir_fd=self.proc)
        fields = _status(self.proc)
        syscalls.setns(self.pidfd, syscalls.CLONE_NEWNS)
        if other == "/":
            beside = os.open("/", _DIRECTORY)
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(base)
        os.umask(int(fields["Umask"], 8))
        _become(fields)
        return beside

    def shares(self, namespace_: str) -> bool:
        """Whether a namespace of it, by its name in /proc/PID/ns, is this process's. Raises OSError."""
        return os.path.samestat(os.stat(f"ns/{namespace_}", dir_fd=self.proc), os.stat(f"/proc/self/ns/{namespace_}"))

    def has(self, *capabilities: int) -> bool:
        """Whether these are in effect. Raises OSError."""
        effective = int(_status(self.proc)["CapEff"], 16)
        return all(effective >> capability & 1 for capability in capabilities)

    def descriptor(self, number: int) -> str:
        """Become the caller in its user namespace only; a path that leads to one of its descriptors. Raises OSError."""
        self._enter_user_namespace()
        path = f"/proc/self/fd/{os.open(f'fd/{number}', os.O_PATH, dir_fd=self.proc)}"
        _become(_status(self.proc))
        return path

    def _enter_user_namespace(self) -> None:
        """Enter it with the caller's supplementary groups. Raises OSError."""
        # Only who never called setgroups(2) still has groups without a place in the id map, and has them all.
        inherited = _groups(_status(self.proc)) == sorted(os.getgroups())
        syscalls.setns(self.pidfd, syscalls.CLONE_NEWUSER)
        if not inherited:
            os.setgroups(_groups(_status(self.proc)))


@dataclass(frozen=True)
class _UpperNames:
    """What it needs to know of an environment to answer calls about names."""

    upper: int  # a descriptor of the upper directory of the overlay over /
    looker: Looker

    @classmethod
    def of(cls, changes: Path, listener: int) -> _UpperNames:
        """Raises OSError."""
        upper = os.open(changes, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return cls(upper, Looker(upper, listener))


def _groups(fields: Mapping[str, str]) -> list[int]:
    return sorted(map(int, fields["Groups"].split()))


def _become(fields: Mapping[str, str]) -> None:
    """Take the ids and capabilities of a status; real, effective, saved and file system ids are in this order."""
    gid, uid = int(fields["Gid"].split()[3]), int(fields["Uid"].split()[3])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    syscalls.capset(int(fields["CapEff"], 16))


def _status(proc: int) -> dict[str, str]:
    """The fields of proc_pid_status(5). Ids are those of the reader's user namespace."""
    with open(os.open("status", os.O_RDONLY, dir_fd=proc), encoding="utf-8", errors="replace") as stream:
        return dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)


# 0 or an errno; or None: the kernel shall do it now; or what is to be done once the kernel has been told to.
_Answer: TypeAlias = "int | Callable[[], None] | None"
# Raises OSError when it could not be tried.
_Action: TypeAlias = "Callable[[_Waiter], _Answer]"
_Visit: TypeAlias = "Callable[[int, _Waiter], int]"  # of the number of a socket


def _plan(call: Notification, calls: Calls, names: _UpperNames | None, visit: _Visit | None = None) -> _Action | None:
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
    except (OSError, ValueError):
        return None


def _plan_node(name: str, call: Notification, visit: _Visit | None) -> _Action:
    """Create the node, or if the kernel does not allow it an empty file with its name, mode and owner."""
    path_at, mode, device = call.arguments[1:4] if name == "mknodat" else call.arguments[:3]
    path, mode, device = _string(call.thread, path_at, _PATH_MAX), mode & 0xFFFF, device & 0xFFFFFFFF
    if name == "mknodat" and path == _VISIT and visit is not None:
        number = call.arguments[0] & 0xFFFFFFFF
        return lambda caller: visit(number, caller)
    relative = name == "mknodat" and not path.startswith(b"/")
    directory = _directory(call.arguments[0]) if relative else "cwd"

    def make(caller: _Waiter) -> int:
        if not caller.has(_CAP_MKNOD):
            return errno.EPERM
        caller.enter(directory)
        failure = _errno(lambda: os.mknod(path, mode, device))
        if failure != errno.EPERM:
            return failure
        return _errno(lambda: os.mknod(path, stat.S_IFREG | stat.S_IMODE(mode)))

    return make


def _visits(serve: Serve, mounts: int) -> _Visit:
    """Lets a caller's descriptor be served, if it may ask for that; 0 or an errno. Raises OSError."""

    def visit(number: int, caller: _Waiter) -> int:
        from sysenv_ns.kernel import visits  # for the few who ask

        return visits.accept(caller.pidfd, caller.proc, number, mounts, caller.check, serve)

    return visit


def _plan_chroot(call: Notification) -> _Action | None:
    """The kernel does it, in a directory that has device nodes by then."""
    path = _string(call.thread, call.arguments[0], _PATH_MAX)
    if path == b"/":
        return None
    from sysenv_ns.kernel import chroots  # for the few who do it; here, where the root is still the host's

    def prepare(caller: _Waiter) -> Callable[[], None] | None:
        if not caller.has(_CAP_SYS_CHROOT, _CAP_SYS_ADMIN):
            return None
        pid = int(_status(caller.proc)["Tgid"])
        processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        caller.enter("cwd")
        return chroots.furnish(path, pid, processes)

    return prepare


def _plan_furniture(name: str, call: Notification) -> _Action | None:
    """What root of a user namespace is refused where it furnishes another root (binds.py)."""
    from sysenv_ns.kernel import binds  # for the few who do it; here, where the root is still the host's

    plan = binds.PLANS.get(name)
    wanted = plan(call.arguments, lambda address: _string(call.thread, address, _PATH_MAX)) if plan else None
    if wanted is None:
        return None

    def furnish(caller: _Waiter) -> int | None:
        if not caller.has(_CAP_SYS_ADMIN) or not all(map(caller.shares, wanted.namespaces)):
            return None
        itself = os.open("/proc/self", _DIRECTORY)
        return wanted.carry_out(caller.enter("cwd", "/"), itself)

    return furnish


def _plan_name(name: str, call: Notification, names: _UpperNames) -> _Action | None:
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

    def link(caller: _Waiter) -> None:
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


def _plan_acl(name: str, call: Notification) -> _Action | None:
    """Set an access control list without the entries for users and groups that do not exist in the single map."""
    file_at, attribute_at, value_at, size, flags = call.arguments[:5]
    attribute = _string(call.thread, attribute_at, _XATTR_NAME_MAX + 1)
    if attribute not in _ACL_NAMES or not 0 < size <= _XATTR_SIZE_MAX:
        return None
    value = syscalls.process_vm_readv(call.thread, value_at, size)
    kept = possible_acl(value)
    if kept == value or len(value) < size:
        return None
    path = b"" if name == "fsetxattr" else _string(call.thread, file_at, _PATH_MAX)

    def apply(caller: _Waiter) -> int:
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
        text, end, _ = syscalls.process_vm_readv(thread, address, length).partition(b"\0")
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
