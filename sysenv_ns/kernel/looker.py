"""Resolves a name as its caller sees it, as root of the session's user namespace; changes nothing.

Most calls need no action, and starting a process for each would take a hundred times as long. This process is in
no mount namespace of an environment.
"""

from __future__ import annotations

import _socket
import os
import stat

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.kernel import children, mountinfo, moves, namespace, syscalls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sysenv_ns.kernel.mountinfo import Mount

_MESSAGE = 1 << 14  # bytes: a path and what is before it
_REMEMBERED = 64  # mount namespaces and roots


class Looker:
    """A process that ends together with this object's; it is started at the first question."""

    def __init__(self, upper: int, listener: int) -> None:
        """`upper`: the directory of changes, shaped like /; `listener`: to be closed in its process."""
        self._upper, self._listener = upper, listener
        self._overlays = _Overlays()
        self._socket: _socket.socket | None = None

    def is_directory(self, thread: int, base: str, path: bytes) -> bool:
        """Whether this path of a thread is a directory of the environment's overlays. Raises OSError."""
        try:  # as long as the user may go there himself
            status = os.lstat(_place(thread, base, path))
            return stat.S_ISDIR(status.st_mode) and self._overlays.have(thread, status.st_dev)
        except PermissionError:
            return self._ask(thread, b"d", base, path)

    def is_lower_file(self, thread: int, base: str, path: bytes) -> bool:
        """Whether it is a file with one name that the environment has not changed yet. Raises OSError."""
        return self._ask(thread, b"f", base, path)

    def _ask(self, thread: int, kind: bytes, base: str, path: bytes) -> bool:
        if self._socket is None:
            if not namespace.is_of_a_session(thread):  # but of a namespace that a program made inside
                return False
            self._socket, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            if os.fork() == 0:
                try:
                    os.close(self._listener)
                    self._socket.close()
                    _serve(theirs, thread, self._upper)
                finally:
                    os._exit(0)
            theirs.close()
        self._socket.send(b"%s%d\0%s\0%s" % (kind, thread, base.encode(), path))
        return self._socket.recv(1) == b"y"


class _Overlays:
    """The overlays of the environment: that over /, and those that the driver idmap mounts like it below.

    All links and renames ask for them, so they are remembered; they do not change while a session lasts.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], frozenset[int]] = {}  # devices, by mount namespace and root

    def have(self, thread: int, device: int) -> bool:
        """Whether a device is one of theirs, as this thread sees them. Raises OSError."""
        root = os.stat(f"/proc/{thread}/root")
        if device == root.st_dev:
            return True
        key = os.stat(f"/proc/{thread}/ns/mnt").st_ino, root.st_dev, root.st_ino
        if key not in self._known:
            if len(self._known) == _REMEMBERED:
                self._known.clear()
            self._known[key] = _devices(mountinfo.read(thread))
        return device in self._known[key]


def _devices(mounts: Iterable[Mount]) -> frozenset[int]:
    """Those of all overlays that are named like the one over /; none in a chroot, where that is not seen."""
    overlays = [mount for mount in mounts if mount.fstype == "overlay"]
    names = {mount.source for mount in overlays if mount.point == "/"}
    return frozenset(os.makedev(*map(int, mount.device.split(":"))) for mount in overlays if mount.source in names)


def _place(thread: int, base: str, path: bytes) -> bytes:
    where = b"root" if path.startswith(b"/") else base.encode() + b"/"
    return b"/proc/%d/%s%s" % (thread, where, path)


def _serve(connection: _socket.socket, thread: int, upper: int) -> None:
    children.forbid_tracing()
    users = os.open(f"/proc/{thread}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(users, syscalls.CLONE_NEWUSER)
    os.close(users)
    namespace.become_root()
    children.forbid_tracing()  # other ids have made it traceable again
    overlays = _Overlays()
    while message := connection.recv(_MESSAGE):
        number, base, path = message[1:].split(b"\0", 2)
        try:
            found = _look(message[:1], int(number), _place(int(number), base.decode(), path), upper, overlays)
        except (OSError, ValueError):
            found = False
        connection.send(b"y" if found else b"n")


def _look(kind: bytes, thread: int, place: bytes, upper: int, overlays: _Overlays) -> bool:
    status = os.lstat(place)
    if not overlays.have(thread, status.st_dev):
        return False
    if kind == b"d":
        return stat.S_ISDIR(status.st_mode)
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and not moves.is_in_upper(upper, place)
