"""A thread that waits for an answer of the supervisor, and how a process becomes like it; knows no calls."""

from __future__ import annotations

import errno
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.kernel import syscalls, unotify
from sysenv_ns.kernel.unotify import Notification
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_PIDFD_THREAD = os.O_EXCL  # pidfd_open(2), Linux 6.9


@dataclass(frozen=True)
class CallingThread:
    """The thread, held so that no other one can be taken for it."""

    pidfd: int
    proc: int  # its directory in the host's /proc
    check: Callable[[], None]  # raises OSError when it does not wait any more

    @classmethod
    def of(cls, listener: int, call: Notification) -> CallingThread:
        """Raises OSError if it no longer waits."""
        try:
            pidfd = os.pidfd_open(call.thread, _PIDFD_THREAD)
        except OSError:  # an older kernel, which has descriptors for processes only
            pidfd = os.pidfd_open(call.thread)
        proc = os.open(f"/proc/{call.thread}", _DIRECTORY)

        def check() -> None:
            unotify.check(listener, call.ident)

        check()  # both are the caller's from here on
        own = os.open("/proc/self", _DIRECTORY)
        if _status(proc)["NoNewPrivs"] != _status(own)["NoNewPrivs"]:
            # It has confined itself, for example by Landlock, which nobody can do for it.
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return cls(pidfd, proc, check)

    def enter(self, directory: str, other: str = "cwd") -> int:
        """Become like the caller, in its namespaces and root, in `directory` of its /proc. Raises OSError.

        Returns a descriptor of `other` there.
        """
        self.enter_namespaces()
        beside = os.open(other, _DIRECTORY, dir_fd=self.proc)
        self.become(directory)
        return beside

    def enter_namespaces(self) -> None:
        """Enter them, with all rights there, at the root of the mounts. Raises OSError."""
        self._enter_user_namespace()  # first of all: only root there may look into /proc/PID/fd
        syscalls.setns(self.pidfd, syscalls.CLONE_NEWNS)

    def become(self, directory: str) -> None:
        """Become like the caller, whose namespaces these are, in `directory` of its /proc. Raises OSError."""
        base = os.open(directory, _DIRECTORY, dir_fd=self.proc)
        root = os.open("root", _DIRECTORY, dir_fd=self.proc)
        fields = _status(self.proc)
        os.fchdir(root)
        os.chroot(".")
        os.fchdir(base)
        os.umask(int(fields["Umask"], 8))
        _become(fields)

    def shares(self, namespace_: str) -> bool:
        """Whether a namespace of it, by its name in /proc/PID/ns, is this process's. Raises OSError."""
        return os.path.samestat(os.stat(f"ns/{namespace_}", dir_fd=self.proc), os.stat(f"/proc/self/ns/{namespace_}"))

    def process(self) -> int:
        """The number of its process. Raises OSError."""
        return int(_status(self.proc)["Tgid"])

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


def _groups(fields: Mapping[str, str]) -> list[int]:
    return sorted(map(int, fields["Groups"].split()))


def _become(fields: Mapping[str, str]) -> None:
    """Take the ids and capabilities of a status; real, effective, saved and file system ids are in this order."""
    gid, uid = int(fields["Gid"].split()[3]), int(fields["Uid"].split()[3])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    unotify.capset(int(fields["CapEff"], 16))


def _status(proc: int) -> dict[str, str]:
    """The fields of proc_pid_status(5). Ids are those of the reader's user namespace."""
    with open(os.open("status", os.O_RDONLY, dir_fd=proc), encoding="utf-8", errors="replace") as stream:
        return dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
