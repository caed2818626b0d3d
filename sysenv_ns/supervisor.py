"""Answers the system calls that a filter cannot decide by itself: device nodes, and access lists in the single map.

A process beside the session, which the kernel asks while the calling thread waits (seccomp_unotify(2)). It stays on
the host's side of all namespaces, so it holds no mount and keeps no environment running, and it ends with the last
process under the filter. Nothing is granted here that the caller could not have: it gets less than it asked for.
"""

from __future__ import annotations

import _socket  # only the C half: the other takes a start's time to import
import array
import os
import select
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import _prctl  # see children.py

from sysenv_ns import children, namespace, syscalls
from sysenv_ns.errors import SysenvError
from sysenv_ns.syscalls import Notification

Calls = Mapping[tuple[int, int], str]  # by architecture and number

_CAP_MKNOD = 27
_PATH_MAX = 4096
_XATTR_NAME_MAX = 255
_ACL_NAMES = (b"system.posix_acl_access", b"system.posix_acl_default")
_ACL_HEADER = struct.Struct("=I")
_ACL_ENTRY = struct.Struct("=HHI")
_ACL_NAMED = (0x02, 0x08)  # ACL_USER and ACL_GROUP of linux/posix_acl.h


class Supervisor:
    """The process, waiting for the listener of a filter; when it gets none it ends with this object's process."""

    def __init__(self, calls: Calls) -> None:
        self._socket, theirs = _socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                self._socket.close()
                if os.fork() == 0:  # nobody's child: a program may wait for all of its own
                    _serve(theirs, calls)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        theirs.close()

    def hand_over(self, listener: int) -> None:
        """Let it answer what arrives at `listener`, which is closed here."""
        rights = array.array("i", [listener])
        self._socket.sendmsg([b"l"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        self._socket.close()
        os.close(listener)


def _serve(connection: _socket.socket, calls: Calls) -> None:
    _detach(connection.fileno())
    _, ancillary, _, _ = connection.recvmsg(1, _socket.CMSG_SPACE(4))
    connection.close()
    if not ancillary:  # the session failed before it came to its command
        return
    (listener,) = array.array("i", ancillary[0][2])
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while any(events & select.POLLIN for _, events in poll.poll()):  # POLLHUP: no process is under the filter any more
        try:
            call = syscalls.seccomp_receive(listener)
            syscalls.seccomp_respond(listener, call.ident, _answer(listener, call, calls))
        except OSError:  # its thread was killed meanwhile
            continue


def _detach(kept: int) -> None:
    """Keep nothing of the session: no terminal, no pipe whose other end waits for its end, no directory, no lock."""
    os.setsid()
    _prctl.prctl(_prctl.PR_SET_NAME, "sysenv-ns-calls")
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _answer(listener: int, call: Notification, calls: Calls) -> int | None:
    """0, an errno, or None to let the kernel do what it does: refuse, in most cases."""
    try:
        caller = _Caller.read(call.thread)
        name = calls.get((call.architecture, call.number), "")
        action = _plan_node(caller, name, call) if name.startswith("mknod") else _plan_acl(caller, name, call)
        syscalls.seccomp_check(listener, call.ident)  # what was read is the caller's
    except (OSError, ValueError, KeyError):
        return None
    if action is None:
        return None
    try:
        children.call(action, "sysenv-ns-call")
    except OSError as error:
        return error.errno
    except SysenvError:
        return None
    return 0


@dataclass(frozen=True)
class _Caller:
    """A thread that waits for an answer."""

    thread: int
    process: int
    capabilities: int
    umask: int

    @classmethod
    def read(cls, thread: int) -> _Caller:
        """Raises OSError for one that is gone, KeyError for one of a namespace that an environment's program made."""
        with open(f"/proc/{thread}/status", encoding="utf-8", errors="replace") as stream:
            fields = dict(line.split(":\t", 1) for line in stream if ":\t" in line)
        if not namespace.is_of_a_session(thread):
            raise KeyError(thread)
        return cls(thread, int(fields["Tgid"]), int(fields["CapEff"], 16), int(fields["Umask"], 8))

    def memory(self, address: int, length: int) -> bytes:
        """Up to `length` bytes from `address` on. Raises OSError."""
        return syscalls.process_vm_readv(self.thread, address, length) if length else b""

    def string(self, address: int, limit: int) -> bytes:
        """The string at `address`. Raises ValueError when it does not end."""
        text, end, _ = self.memory(address, limit).partition(b"\0")
        if not end:
            raise ValueError(address)
        return text

    def enter_user_namespace(self) -> int:
        """Get all capabilities over what the caller owns; returns a pidfd of it. Raises OSError."""
        pidfd = os.pidfd_open(self.process)
        syscalls.setns(pidfd, syscalls.CLONE_NEWUSER)
        return pidfd

    def enter(self, directory: str) -> None:
        """Become what the caller is, in its namespaces, root and `directory` (below its /proc). Raises OSError."""
        pidfd = self.enter_user_namespace()  # first of all: only root there may look into /proc/PID/fd
        base = os.open(f"/proc/{self.thread}/{directory}", os.O_PATH | os.O_DIRECTORY)
        root = os.open(f"/proc/{self.thread}/root", os.O_PATH | os.O_DIRECTORY)
        with open(f"/proc/{self.thread}/status", encoding="utf-8", errors="replace") as stream:
            ids = {line.split()[0]: int(line.split()[4]) for line in stream if line.startswith(("Uid:", "Gid:"))}
        syscalls.setns(pidfd, syscalls.CLONE_NEWNS)
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(base)
        os.umask(self.umask)
        os.setresgid(*[ids["Gid:"]] * 3)
        os.setresuid(*[ids["Uid:"]] * 3)


def _plan_node(caller: _Caller, name: str, call: Notification) -> Callable[[], None] | None:
    """Make the node, where the kernel does not allow it an empty file of its name, mode and owner."""
    if not caller.capabilities >> _CAP_MKNOD & 1:
        return None
    directory = "cwd"
    if name == "mknodat":
        directory = _directory(call.arguments[0])
    path_at, mode, device = call.arguments[1:4] if name == "mknodat" else call.arguments[:3]
    path, mode = caller.string(path_at, _PATH_MAX), mode & 0xFFFF

    def make() -> None:
        caller.enter(directory)
        try:
            os.mknod(path, mode, device & 0xFFFFFFFF)
        except PermissionError:
            os.mknod(path, stat.S_IFREG | stat.S_IMODE(mode))

    return make


def _directory(descriptor: int) -> str:
    """What the directory argument of a call means, below the caller's /proc."""
    return "cwd" if descriptor & 0xFFFFFFFF == syscalls.AT_FDCWD & 0xFFFFFFFF else f"fd/{descriptor & 0xFFFFFFFF}"


def _plan_acl(caller: _Caller, name: str, call: Notification) -> Callable[[], None] | None:
    """Set an access control list without the entries for users and groups that do not exist in the single map."""
    file_at, attribute_at, value_at, size, flags = call.arguments[:5]
    attribute = caller.string(attribute_at, _XATTR_NAME_MAX + 1)
    if attribute not in _ACL_NAMES:
        return None
    value = caller.memory(value_at, size)
    kept = possible_acl(value)
    if kept == value:
        return None
    path = b"" if name == "fsetxattr" else caller.string(file_at, _PATH_MAX)

    def apply() -> None:
        if name == "fsetxattr":
            caller.enter_user_namespace()
            os.setxattr(f"/proc/{caller.thread}/fd/{file_at & 0xFFFFFFFF}", attribute, kept, flags)
            return
        caller.enter("cwd")
        os.setxattr(path, attribute, kept, flags, follow_symlinks=name == "setxattr")

    return apply


def possible_acl(value: bytes) -> bytes:
    """An access control list in its kernel form, without entries for others than root. Raises ValueError."""
    header, entries = value[: _ACL_HEADER.size], value[_ACL_HEADER.size :]
    if len(entries) % _ACL_ENTRY.size:
        raise ValueError(value)
    kept = (entry for entry in _ACL_ENTRY.iter_unpack(entries) if entry[0] not in _ACL_NAMED or entry[2] == 0)
    return header + b"".join(_ACL_ENTRY.pack(*entry) for entry in kept)
