"""Answers the system calls that a filter cannot decide by itself: device nodes, and access lists in the single map.

A process beside the session, which the kernel asks while the calling thread waits (seccomp_unotify(2)). It stays on
the host's side of all namespaces, so it holds no mount and keeps no environment running, and it ends with the last
process under the filter. What it does for a caller it does with the caller's identity and capabilities, in its root.
"""

from __future__ import annotations

import _socket  # only the C half: the other takes a start's time to import
import array
import errno
import os
import select
import signal
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import children, namespace, syscalls
from sysenv_ns.kernel.syscalls import Notification

Calls = Mapping[tuple[int, int], str]  # by architecture and number

_CAP_MKNOD = 27
_PATH_MAX = 4096
_XATTR_NAME_MAX = 255
_XATTR_SIZE_MAX = 65536  # linux/limits.h
_ACL_NAMES = (b"system.posix_acl_access", b"system.posix_acl_default")
_ACL_HEADER = struct.Struct("=I")
_ACL_ENTRY = struct.Struct("=HHI")
_ACL_NAMED = (0x02, 0x08)  # ACL_USER and ACL_GROUP of linux/posix_acl.h
_PIDFD_THREAD = os.O_EXCL  # pidfd_open(2), Linux 6.9


class Supervisor:
    """The process, waiting for the listener of a filter; when it gets none it ends with this object's process."""

    def __init__(self, calls: Calls) -> None:
        self._socket, theirs = _socket.socketpair()
        self._starter = children.start_detached(lambda: _serve(theirs, calls))
        theirs.close()

    def wait(self) -> None:
        """Wait until it has started, before anything depends on it. Raises SysenvError."""
        if children.reap(self._starter):
            raise SysenvError("the supervisor of system calls cannot be started", "end some of your processes")

    def hand_over(self, listener: int) -> None:
        """Let it answer what arrives at `listener`, which is closed here. Raises SysenvError when it has ended."""
        rights = array.array("i", [listener])
        try:
            self._socket.sendmsg([b"l"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        except OSError as error:
            raise SysenvError(f"the supervisor of system calls has ended: {reason(error)}", "try it again") from error
        finally:
            self._socket.close()
            os.close(listener)


def _serve(connection: _socket.socket, calls: Calls) -> None:
    children.leave_session({connection.fileno()}, "sysenv-ns-calls")
    _, ancillary, _, _ = connection.recvmsg(1, _socket.CMSG_SPACE(4))
    connection.close()
    if not ancillary:  # the session failed before it came to its command
        return
    (listener,) = array.array("i", ancillary[0][2])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while any(events & select.POLLIN for _, events in poll.poll()):  # POLLHUP: no process is under the filter any more
        try:
            call = syscalls.seccomp_receive(listener)
            action = _plan(call, calls)
            if action is None:
                syscalls.seccomp_respond(listener, call.ident, None)
            else:
                _act(listener, call, action)
        except OSError:  # its thread was killed meanwhile
            continue


def _act(listener: int, call: Notification, action: _Action) -> None:
    """In a worker: what one caller waits for, a slow file system for example, must not hold up the others."""
    try:
        worker = os.fork()
    except OSError:
        worker = -1
    if worker > 0:
        return
    answer: int | None = None
    try:
        if worker == 0:
            answer = action(_Caller.of(listener, call))
    except OSError:  # it could not become the caller: the kernel shall refuse it
        pass
    finally:
        try:
            syscalls.seccomp_respond(listener, call.ident, answer)
        finally:
            if worker == 0:
                os._exit(0)


@dataclass(frozen=True)
class _Caller:
    """A thread that waits for an answer, held so that no other one can be taken for it."""

    pidfd: int
    proc: int  # its directory in the host's /proc

    @classmethod
    def of(cls, listener: int, call: Notification) -> _Caller:
        """Raises OSError when it does not wait any more."""
        try:
            pidfd = os.pidfd_open(call.thread, _PIDFD_THREAD)
        except OSError:  # an older kernel, which has descriptors for processes only
            pidfd = os.pidfd_open(call.thread)
        proc = os.open(f"/proc/{call.thread}", os.O_PATH | os.O_DIRECTORY)
        syscalls.seccomp_check(listener, call.ident)  # both are the caller's from here on
        return cls(pidfd, proc)

    def enter(self, directory: str) -> None:
        """Become what the caller is, in its namespaces and root, in `directory` of its /proc. Raises OSError."""
        syscalls.setns(self.pidfd, syscalls.CLONE_NEWUSER)  # first of all: only root there may look into /proc/PID/fd
        base = os.open(directory, os.O_PATH | os.O_DIRECTORY, dir_fd=self.proc)
        root = os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=self.proc)
        fields = _status(self.proc)
        syscalls.setns(self.pidfd, syscalls.CLONE_NEWNS)
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(base)
        os.umask(int(fields["Umask"], 8))
        _become(fields)

    def descriptor(self, number: int) -> str:
        """Become the caller in its user namespace only; a path that leads to one of its descriptors. Raises OSError."""
        syscalls.setns(self.pidfd, syscalls.CLONE_NEWUSER)
        path = f"/proc/self/fd/{os.open(f'fd/{number}', os.O_PATH, dir_fd=self.proc)}"
        _become(_status(self.proc))
        return path


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


_Action = Callable[[_Caller], int]  # gives 0 or an errno; raises OSError when it could not be tried


def _plan(call: Notification, calls: Calls) -> _Action | None:
    """What to do for a caller, or None to let the kernel do what it does: refuse, in most cases."""
    name = calls.get((call.architecture, call.number), "")
    try:
        if not namespace.is_of_a_session(call.thread):  # of a namespace that a program made inside
            return None
        if name.startswith("mknod"):
            return _plan_node(name, call)
        return _plan_acl(name, call) if name.endswith("setxattr") else None
    except (OSError, ValueError):
        return None


def _plan_node(name: str, call: Notification) -> _Action:
    """Make the node, where the kernel does not allow it an empty file of its name, mode and owner."""
    path_at, mode, device = call.arguments[1:4] if name == "mknodat" else call.arguments[:3]
    path, mode, device = _string(call.thread, path_at, _PATH_MAX), mode & 0xFFFF, device & 0xFFFFFFFF
    relative = name == "mknodat" and not path.startswith(b"/")
    directory = _directory(call.arguments[0]) if relative else "cwd"

    def make(caller: _Caller) -> int:
        if not int(_status(caller.proc)["CapEff"], 16) >> _CAP_MKNOD & 1:
            return errno.EPERM
        caller.enter(directory)
        failure = _errno(lambda: os.mknod(path, mode, device))
        if failure != errno.EPERM:
            return failure
        return _errno(lambda: os.mknod(path, stat.S_IFREG | stat.S_IMODE(mode)))

    return make


def _errno(action: Callable[[], None]) -> int:
    try:
        action()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _directory(descriptor: int) -> str:
    """What the directory argument of a call means, below the caller's /proc."""
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

    def apply(caller: _Caller) -> int:
        if name == "fsetxattr":
            file: str | bytes = caller.descriptor(file_at & 0xFFFFFFFF)
        else:
            caller.enter("cwd")
            file = path
        return _errno(lambda: os.setxattr(file, attribute, kept, flags, follow_symlinks=name != "lsetxattr"))

    return apply


def _string(thread: int, address: int, limit: int) -> bytes:
    """The string at an address of a thread. Raises ValueError when it does not end, OSError."""
    text, end, _ = syscalls.process_vm_readv(thread, address, limit).partition(b"\0")
    if not end:
        raise ValueError(address)
    return text


def possible_acl(value: bytes) -> bytes:
    """An access control list in its kernel form, without entries for others than root. Raises ValueError."""
    header, entries = value[: _ACL_HEADER.size], value[_ACL_HEADER.size :]
    if len(entries) % _ACL_ENTRY.size:
        raise ValueError(value)
    kept = (entry for entry in _ACL_ENTRY.iter_unpack(entries) if entry[0] not in _ACL_NAMED or entry[2] == 0)
    return header + b"".join(_ACL_ENTRY.pack(*entry) for entry in kept)
