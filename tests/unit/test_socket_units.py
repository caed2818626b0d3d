"""What socket units listen on, and which service they are for."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from sysenv_ns.within import addresses, passing
from sysenv_ns.within.addresses import Address
from sysenv_ns.within.units import OrderError, Unit


def unit(name: str = "x.socket", **settings: str) -> Unit:
    return Unit(name, "", {("Socket", key): (value,) for key, value in settings.items()})


@pytest.mark.parametrize(
    ("key", "value", "place", "shown"),
    [
        ("ListenStream", "/run/x y", "/run/x y", "/run/x y"),
        ("ListenDatagram", "@name", "@name", "@name"),
        ("ListenSequentialPacket", "/run/x", "/run/x", "/run/x"),
        ("ListenFIFO", "/run/x", "/run/x", "/run/x"),
        ("ListenStream", "80", ("::", 80), "[::]:80"),
        ("ListenStream", "127.0.0.1:8080", ("127.0.0.1", 8080), "127.0.0.1:8080"),
        ("ListenDatagram", "[::1]:53", ("::1", 53), "[::1]:53"),
    ],
)
def test_addresses(key: str, value: str, place: addresses.Place, shown: str) -> None:
    [found] = addresses.of(unit(**{key: value}))
    assert (found, found.shown) == (Address(key, place), shown)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("ListenStream", value) for value in ("vsock:2:1234", "relative", "0", "65536", "localhost:80", "1.2.3.4")),
        ("ListenSequentialPacket", "80"),
        ("ListenFIFO", "@x"),
        ("ListenNetlink", "audit 1"),
        ("ListenMessageQueue", "/x"),
        ("ListenSpecial", "/dev/x"),
        ("Accept", "no"),
    ],
)
def test_what_cannot_be_listened_on(key: str, value: str) -> None:
    with pytest.raises(OrderError):
        addresses.of(unit(**{key: value}))


def _open(made: Unit) -> int:
    [address] = addresses.of(made)
    return addresses.opened(made, address)


def test_a_path(tmp_path: Path) -> None:
    path = tmp_path / "new" / "socket"
    made = unit(ListenStream=str(path), SocketMode="0640", DirectoryMode="0700")
    first = _open(made)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o640, 0o700)
    # What somebody listens on is not taken from him; what is left over of somebody else is.
    with pytest.raises(OrderError) as caught:
        _open(made)
    assert "something else listens there" in caught.value.hint
    os.close(first)
    os.close(_open(made))
    path.unlink()
    path.write_text("a file")
    with pytest.raises(OrderError):
        _open(made)
    assert path.read_text() == "a file"


def test_a_fifo(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    made = unit(ListenFIFO=str(path), SocketMode="0600")
    for _ in range(2):
        found = _open(made)
        assert stat.S_IFMT(os.fstat(found).st_mode) == stat.S_IFIFO
        os.close(found)
    path.unlink()
    (tmp_path / "target").touch()
    path.symlink_to(tmp_path / "target")
    with pytest.raises(OrderError):
        _open(made)


@pytest.mark.parametrize("key", ["ListenStream", "ListenFIFO"])
def test_what_a_user_puts_in_its_place_gets_no_other_owner_or_mode(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom the directory belongs to can exchange names in it at any moment, for a link to a file of root's."""
    path, secret = tmp_path / "place", tmp_path / "secret"
    secret.touch(mode=0o600)
    monkeypatch.setattr(socket, "socket", _Exchanging)
    monkeypatch.setattr(os, "mkfifo", lambda made: Path(made).symlink_to(secret))
    monkeypatch.setattr(_Exchanging, "secret", secret, raising=False)
    with pytest.raises(OrderError):
        _open(unit(**{key: str(path)}))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


class _Exchanging(socket.socket):
    secret: Path

    def bind(self, address: str) -> None:  # type: ignore[override]
        super().bind(address)
        Path(address).unlink()
        Path(address).symlink_to(self.secret)


def test_all_addresses_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without(family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no")
        return real(family, kind, proto, fileno)

    monkeypatch.setattr("sysenv_ns.within.addresses.socket.socket", without)
    with real() as free:
        free.bind(("0.0.0.0", 0))
        port = free.getsockname()[1]
    with real(fileno=_open(unit(ListenStream=str(port)))) as found:
        assert found.getsockname() == ("0.0.0.0", port)


@pytest.mark.parametrize(
    ("made", "target"),
    [
        (unit(), "x.service"),
        (unit(Service="y.service"), "y.service"),
        (unit("x@one.socket"), "x@one.service"),
        (unit(Accept="yes"), "x@.service"),
    ],
)
def test_targets(made: Unit, target: str) -> None:
    assert passing.target(made) == target
