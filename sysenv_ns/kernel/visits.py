"""How a process of a session reaches the host's side: by a socket, which it hands over with a system call.

The call is one that the supervisor is asked about. There is nothing that listens, and nothing that others could connect
to: who calls, the kernel says, and the calling thread waits while it is looked at. Loaded by the first who calls.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from sysenv_ns.kernel import children, syscalls, unotify
from sysenv_ns.records import dataclass, replace

NAME = "sysenv-ns-host"  # of the device node that is asked for, with the socket in place of a directory
_LABEL = "attr/current"  # proc_pid_attr(5)
# In which no session has ones of its own, besides its mounts (namespaces(7)).
_NAMESPACES = ("cgroup", "ipc", "net", "pid", "uts")
_OF_INIT = ("cgroup", "pid")  # but those of a process 1, where there is one
_UNCONFINED = "unconfined"  # of AppArmor, also as the mode of a profile that confines nothing


@dataclass(frozen=True)
class Standing:
    """Who a thread is on the host (real, effective, saved and file system id), where, and by what it is confined."""

    uids: tuple[int, ...]
    no_new_privileges: bool
    filters: int | None  # of system calls; None before Linux 5.9
    label: str  # of a security module
    namespaces: tuple[int, ...]  # by their inodes
    mounts: int  # the namespace of these
    root: str  # in its namespace

    @classmethod
    def of(cls, proc: int) -> Standing:
        """Of the thread with this directory in the host's /proc. Raises OSError."""
        text = _read(proc, "status")
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        filters = int(fields["Seccomp_filters"]) if "Seccomp_filters" in fields else None
        uids = tuple(map(int, fields["Uid"].split()))
        namespaces = tuple(_inode(proc, kind) for kind in _NAMESPACES)
        place = namespaces, _inode(proc, "mnt"), os.readlink("root", dir_fd=proc)
        return cls(uids, fields["NoNewPrivs"] != "0", filters, _label(proc), *place)


def call(theirs: int) -> None:
    """Hand over an end of a socket. Raises OSError: EPERM for who may not, others where nobody takes it."""
    os.mknod(NAME, stat.S_IFCHR, dir_fd=theirs)


def accept(
    pidfd: int,
    proc: int,
    number: int,
    session: tuple[int, ...],
    still_waits: Callable[[], None],
    serve: Callable[[int], None],
) -> int:
    """Let a process of its own `serve` the socket that the caller has under this number, if the caller may call.

    `session`: its mount, control group and process namespace; the last two are others than this process's
    where it has a process 1. Returns 0, or an errno for the caller. Raises OSError.
    """
    own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    mounts, *others = session
    here = Standing.of(own)
    namespaces = {**dict(zip(_NAMESPACES, here.namespaces, strict=True)), **dict(zip(_OF_INIT, others, strict=True))}
    if not may_call(Standing.of(proc), replace(here, namespaces=tuple(namespaces.values())), mounts):
        return errno.EPERM
    descriptor = unotify.pidfd_getfd(pidfd, number)
    still_waits()  # so all of this was the caller's, who can change nothing of itself meanwhile
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return errno.ENOTSOCK
    if os.fork() == 0:
        try:
            children.leave_session({descriptor}, NAME)
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # it is a process of the user's as any other by now
            serve(descriptor)
        finally:
            os._exit(1)
    return 0


def may_call(caller: Standing, own: Standing, mounts: int) -> bool:
    """Whether the host's side may act for a caller: who is its user in all respects, and not confined more than it is.

    Root of a session and its other users have other ids. All in a session are under one filter of system calls more.
    Real root has more rights outside than whatever runs inside, so nobody acts for that. Nor for who is kept in what
    root of a session makes without another user namespace: another root, a container's mounts, a network of its own.
    """
    uid = own.uids[0]
    if uid == 0 or {*own.uids, *caller.uids} != {uid}:
        return False
    if (caller.namespaces, caller.mounts, caller.root) != (own.namespaces, mounts, "/"):
        return False
    filters = None if own.filters is None else own.filters + 1
    return (caller.no_new_privileges, caller.filters, caller.label) == (own.no_new_privileges, filters, own.label)


def _inode(proc: int, kind: str) -> int:
    """Of a namespace; 0 on a kernel that has none of this kind."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(f"ns/{kind}", dir_fd=proc).st_ino
    return 0


def _label(proc: int) -> str:
    try:
        label = _read(proc, _LABEL).strip("\0\n ")
    except OSError:  # no security module has any
        return ""
    return _UNCONFINED if label.endswith(f"({_UNCONFINED})") else label


def _read(proc: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc), encoding="utf-8", errors="replace") as stream:
        return stream.read()
