"""What a socket unit listens on: reads Listen...= of systemd.socket(5), and opens it; waits for nobody."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import re
import socket
import stat
from dataclasses import dataclass, replace
from typing import Union

from sysenv_ns.within import advice
from sysenv_ns.within.units import OrderError, Unit

_TYPES = {
    "ListenStream": socket.SOCK_STREAM,
    "ListenDatagram": socket.SOCK_DGRAM,
    "ListenSequentialPacket": socket.SOCK_SEQPACKET,
}
_FIFO = "ListenFIFO"
_SHOWN = {"ListenStream": "Stream", "ListenDatagram": "Datagram", "ListenSequentialPacket": "SequentialPacket"}
_PORT = re.compile(r"[0-9]{1,5}")
_INET = re.compile(r"([0-9.]+):([0-9]{1,5})")
_INET6 = re.compile(r"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})")
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)

# Not typing's newer form: python3 of an environment may be 3.9.
Place = Union[str, tuple[str, int]]  # noqa: UP007


@dataclass(frozen=True)
class Address:
    """One thing to listen on: `key` is the setting, `place` a path, an abstract name that begins with @, or an address
    with a port.
    """

    key: str
    place: Place

    @property
    def path(self) -> str | None:
        """Where it is in the file system."""
        return self.place if isinstance(self.place, str) and self.place.startswith("/") else None

    @property
    def shown(self) -> str:
        """As list-sockets shows it."""
        if isinstance(self.place, str):
            return self.place
        host, port = self.place
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def kind(self) -> str:
        """As status shows it."""
        return _SHOWN.get(self.key, "FIFO")


def of(unit: Unit) -> list[Address]:
    """In the order in which they are passed. Raises OrderError for what cannot be listened on here."""
    keys = [key for section, key in unit.settings if section == "Socket" and key.startswith("Listen")]
    found = [_address(unit, key, value) for key in keys for value in unit.values("Socket", key)]
    if not found:
        raise OrderError(f"{unit.name} has no Listen...=")
    return found


def _address(unit: Unit, key: str, value: str) -> Address:
    if key == _FIFO and value.startswith("/"):
        return Address(key, value)
    if key in _TYPES:
        if value.startswith(("/", "@")):
            return Address(key, value)
        if key != "ListenSequentialPacket":
            for pattern in (_INET, _INET6):
                if found := pattern.fullmatch(value):
                    return Address(key, (found[1], _port(unit, found[2])))
            if _PORT.fullmatch(value):
                return Address(key, ("::", _port(unit, value)))
    raise OrderError(f"{unit.name}: {key}={value} is not supported in an environment")


def _port(unit: Unit, text: str) -> int:
    if not 0 < int(text) < 1 << 16:
        raise OrderError(f"{unit.name}: {text} is not a port")
    return int(text)


def opened(unit: Unit, address: Address) -> int:
    """A descriptor that listens. Raises OrderError."""
    try:
        return _fifo(unit, address.path or "") if address.key == _FIFO else _socket(unit, address).detach()
    except OSError as error:
        hint = ""
        if error.errno == errno.EACCES and not isinstance(address.place, str):
            hint = advice.low_ports()
        elif error.errno == errno.EADDRINUSE:
            hint = "something else listens there, perhaps on the host, whose network this is"
        said = f"{unit.name} cannot listen on {address.shown}: {error.strerror}"
        raise OrderError(said, hint) from error


def _socket(unit: Unit, address: Address) -> socket.socket:
    """:: is 0.0.0.0 where there is no IPv6. Raises OrderError, OSError."""
    try:
        return _listening(unit, address)
    except OSError as error:
        if isinstance(address.place, str) or address.place[0] != "::" or error.errno not in _NO_IPV6:
            raise
        return _listening(unit, replace(address, place=("0.0.0.0", address.place[1])))


def _listening(unit: Unit, address: Address) -> socket.socket:
    place = address.place
    families = {True: socket.AF_INET6, False: socket.AF_INET}
    family = socket.AF_UNIX if isinstance(place, str) else families[":" in place[0]]
    with contextlib.ExitStack() as undo:
        found = undo.enter_context(socket.socket(family, _TYPES[address.key]))
        _prepare(unit, found)
        if address.path:
            _bind_path(unit, found, address.path)
        else:
            found.bind(f"\0{place[1:]}" if isinstance(place, str) else place)
        if address.key != "ListenDatagram":
            found.listen(int(unit.text("Socket", "Backlog", "4096")))
        undo.pop_all()
    return found


def _prepare(unit: Unit, found: socket.socket) -> None:
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    options = {
        "ReusePort": (socket.SOL_SOCKET, socket.SO_REUSEPORT),
        "KeepAlive": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "Broadcast": (socket.SOL_SOCKET, socket.SO_BROADCAST),
        "PassCredentials": (socket.SOL_SOCKET, socket.SO_PASSCRED),
        "NoDelay": (socket.IPPROTO_TCP, socket.TCP_NODELAY),
        "FreeBind": (socket.IPPROTO_IP, getattr(socket, "IP_FREEBIND", 15)),
    }
    for key, (level, option) in options.items():
        if unit.flag("Socket", key):
            found.setsockopt(level, option, 1)
    only = unit.text("Socket", "BindIPv6Only", "default")
    if found.family == socket.AF_INET6 and only in ("both", "ipv6-only"):
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only == "ipv6-only"))


def _bind_path(unit: Unit, found: socket.socket, path: str) -> None:
    _make_parent(unit, path)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _is_answered(path, found.type):
            os.unlink(path)
    found.bind(path)
    _give(unit, path)


def _is_answered(path: str, kind: int) -> bool:
    """Whether somebody listens there: of what lies in /run, some is the host's."""
    with socket.socket(socket.AF_UNIX, kind) as asking:
        try:
            asking.connect(path)
        except OSError as error:
            return error.errno != errno.ECONNREFUSED
    return True


def _fifo(unit: Unit, path: str) -> int:
    _make_parent(unit, path)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path)
        _give(unit, path)
    # For writing too: with no writer left, its end would be read again and again.
    found = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if not stat.S_ISFIFO(os.fstat(found).st_mode):
        os.close(found)
        raise FileExistsError(errno.EEXIST, "it is not a FIFO")
    return found


def _make_parent(unit: Unit, path: str) -> None:
    os.makedirs(os.path.dirname(path), mode=int(unit.text("Socket", "DirectoryMode", "0755"), 8), exist_ok=True)


def _give(unit: Unit, path: str) -> None:
    """Mode and owner: SocketMode=, SocketUser=, SocketGroup=. Raises OrderError, OSError."""
    user, group = unit.text("Socket", "SocketUser"), unit.text("Socket", "SocketGroup")
    try:
        entry = pwd.getpwnam(user) if user else None
        gid = grp.getgrnam(group).gr_gid if group else entry.pw_gid if entry else -1
    except KeyError as error:
        raise OrderError(f"{unit.name}: {str(error.args[0]).strip()}", "its package makes it at installation") from None
    # Whom the directory belongs to may have put something else there meanwhile, such as a link to a file of root's.
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        kind = stat.S_IFMT(os.fstat(place).st_mode)
        if kind not in (stat.S_IFSOCK, stat.S_IFIFO):
            raise FileExistsError(errno.EEXIST, "something else has been put there")
        os.chown(f"/proc/self/fd/{place}", entry.pw_uid if entry else -1, gid)
        os.chmod(f"/proc/self/fd/{place}", int(unit.text("Socket", "SocketMode", "0666"), 8))
    finally:
        os.close(place)


def remove(unit: Unit, found: list[Address]) -> None:
    """RemoveOnStop=: what lies in the file system goes."""
    if unit.flag("Socket", "RemoveOnStop"):
        for path in [address.path for address in found if address.path] + unit.words("Socket", "Symlinks"):
            with contextlib.suppress(OSError):
                os.unlink(path)


def link(unit: Unit, found: list[Address]) -> None:
    """Symlinks=: other names for the only one that has a path. Raises OrderError."""
    paths = [address.path for address in found if address.path]
    for name in unit.words("Socket", "Symlinks") if len(paths) == 1 else ():
        try:
            os.makedirs(os.path.dirname(name), mode=0o755, exist_ok=True)
            if os.path.islink(name):
                os.unlink(name)
            os.symlink(paths[0], name)
        except OSError as error:
            raise OrderError(f"{unit.name}: {name} cannot be made: {error.strerror}") from error
