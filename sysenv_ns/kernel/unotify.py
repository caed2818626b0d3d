"""seccomp_unotify(2) for a supervisor: it receives the calls of other processes and answers them, looks into these,
stops them, and acts with what they have. As in syscalls.py, all this raises OSError only.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from sysenv_ns.kernel.syscalls import checked, libc, syscall
from sysenv_ns.records import dataclass

# seccomp_unotify(2); the one for ID_VALID has the direction that all architectures accept (linux/seccomp.h)
_IOCTL_NOTIF_RECV = 0xC0502100
_IOCTL_NOTIF_SEND = 0xC0182101
_IOCTL_NOTIF_ID_VALID = 0x80082102
_FLAG_CONTINUE = 1

# ptrace(2)
PTRACE_CONT = 7
PTRACE_SEIZE = 0x4206
PTRACE_LISTEN = 0x4208
PTRACE_EVENT_STOP = 128

# capset(2)
_LINUX_CAPABILITY_VERSION_3 = 0x20080522

_NR_PIDFD_GETFD = 438

libc.process_vm_readv.restype = ctypes.c_ssize_t
libc.ptrace.restype = ctypes.c_long


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


@dataclass(frozen=True)
class Notification:
    """A system call that waits for its answer: struct seccomp_notif of seccomp_unotify(2)."""

    ident: int
    thread: int
    architecture: int
    number: int
    arguments: tuple[int, ...]


_NOTIFICATION = struct.Struct("=QII iIQ 6Q")
_RESPONSE = struct.Struct("=Qqi I")


def receive(listener: int) -> Notification:
    """The next system call that waits at a listener (Linux 5.0); ENOENT when its thread has been killed meanwhile."""
    buffer = bytearray(_NOTIFICATION.size)
    fcntl.ioctl(listener, _IOCTL_NOTIF_RECV, buffer)
    ident, thread, _, number, architecture, _, *arguments = _NOTIFICATION.unpack(buffer)
    return Notification(ident, thread, architecture, number, tuple(arguments))


def check(listener: int, ident: int) -> None:
    """ENOENT unless the system call still waits: then its thread id has not been used again."""
    fcntl.ioctl(listener, _IOCTL_NOTIF_ID_VALID, struct.pack("=Q", ident))


def respond(listener: int, ident: int, error: int | None) -> None:
    """End a waiting system call with success (0) or an errno, or let the kernel carry it out (None; Linux 5.5)."""
    flags = _FLAG_CONTINUE if error is None else 0
    fcntl.ioctl(listener, _IOCTL_NOTIF_SEND, _RESPONSE.pack(ident, 0, -(error or 0), flags))


def process_vm_readv(pid: int, address: int, length: int) -> bytes:
    """process_vm_readv(2): up to `length` bytes of another process's memory, fewer where it ends. EFAULT for none."""
    buffer = ctypes.create_string_buffer(length)
    local = _IoVec(ctypes.addressof(buffer), length)
    # One element a page: the call does not split one.
    page = os.sysconf("SC_PAGE_SIZE")
    starts = [address, *range((address // page + 1) * page, address + length, page)]
    remote = (_IoVec * len(starts))(
        *(_IoVec(start, end - start) for start, end in zip(starts, [*starts[1:], address + length], strict=True))
    )
    count = libc.process_vm_readv(
        ctypes.c_int(pid),
        ctypes.byref(local),
        ctypes.c_ulong(1),
        remote,
        ctypes.c_ulong(len(starts)),
        ctypes.c_ulong(0),
    )
    return buffer.raw[: checked(int(count), f"memory of process {pid}")]


def ptrace(request: int, pid: int, data: int = 0) -> None:
    """ptrace(2), without an address."""
    checked(int(libc.ptrace(ctypes.c_long(request), ctypes.c_int(pid), None, ctypes.c_void_p(data))), f"process {pid}")


def capset(capabilities: int) -> None:
    """capset(2): have these capabilities (a mask) effective and permitted, and none inheritable."""
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    low, high = capabilities & 0xFFFFFFFF, capabilities >> 32
    checked(libc.capset(header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)), "capset")


def pidfd_getfd(pidfd: int, number: int) -> int:
    """pidfd_getfd(2): a duplicate of another process's descriptor (Linux 5.6)."""
    return syscall(_NR_PIDFD_GETFD, pidfd, number, 0)
