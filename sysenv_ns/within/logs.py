"""The output of units: a file for each in /var/log/sysenv-ns, lines with their time, as journalctl shows them."""

from __future__ import annotations

import contextlib
import os
import time

DIRECTORY = "/var/log/sysenv-ns"
_LIMIT = 8 << 20  # bytes, then a new file is begun, and the one before the last is gone
_TIME = "%Y-%m-%d %H:%M:%S"
_LONG = 400  # bytes, what a line is taken for when the last ones are looked for
_LINE = 64 << 10  # bytes, the longest line that is kept in one


def path(name: str) -> str:
    """The file of a unit."""
    return f"{DIRECTORY}/{name}.log"


class Log:
    """Writes what the processes of a unit say to a pipe, whose writing end they have as standard output and error."""

    def __init__(self, name: str, identifier: str) -> None:
        os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
        self._path, self._identifier = path(name), identifier
        self.main = 0  # the process that lines are put down to
        self._rest = b""
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._host = os.uname().nodename
        self._file = self._open()

    def _open(self) -> int:
        # Those who may read the host's logs (adm) are nobody in the single map, so all may.
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def collect(self) -> None:
        """Write down what has been said since the last time."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.reader, _LINE):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self._write(line)
                if len(self._rest) > _LINE:
                    self._write(self._rest)
                    self._rest = b""

    def finish(self) -> None:
        """The last line may have no end."""
        self.collect()
        if self._rest:
            self._write(self._rest)
            self._rest = b""

    def note(self, text: str) -> None:
        """Something that the supervisor itself has to say of the unit."""
        self.collect()
        self._write(text.encode(), "systemctl", os.getpid())

    def _write(self, line: bytes, identifier: str = "", pid: int = 0) -> None:
        moment = time.strftime(_TIME)
        origin = f"{identifier or self._identifier}[{pid or self.main or os.getpid()}]"
        with contextlib.suppress(OSError):  # a disk that is full must not end the service
            os.write(self._file, f"{moment} {self._host} {origin}: ".encode() + line + b"\n")
            if os.fstat(self._file).st_size > _LIMIT:
                os.rename(self._path, f"{self._path}.1")
                os.close(self._file)
                self._file = self._open()


def names() -> list[str]:
    """The units that have said something."""
    try:
        found = os.listdir(DIRECTORY)
    except OSError:
        return []
    return sorted(name[: -len(".log")] for name in found if name.endswith(".log"))


def lines(name: str, count: int | None) -> list[str]:
    """The last lines of a unit, or all of them."""
    return _lines(f"{path(name)}.1", None) + _lines(path(name), None) if count is None else last(name, count)


def last(name: str, count: int) -> list[str]:
    """The last lines of a unit."""
    return _lines(path(name), count)[-count:] if count else []


def _lines(file: str, count: int | None) -> list[str]:
    try:
        with open(file, "rb") as stream:
            if count is not None:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - (count + 1) * _LONG))
            return _readable(stream.read())
    except OSError:
        return []


def _readable(data: bytes) -> list[str]:
    """Lines for a terminal: what a service has said may not move the cursor, colour, or begin a line of its own."""
    lines = data.decode("utf-8", "replace").removesuffix("\n").split("\n") if data else []
    return ["".join(map(shown, line.removesuffix("\r"))) for line in lines]


def shown(letter: str) -> str:
    """A letter of what a service has said, as an escape where a terminal would do something."""
    return letter if letter.isprintable() or letter == "\t" else letter.encode("unicode_escape").decode()


def moment(line: str) -> float:
    """When a line was said, for putting those of several units in order; lines of one second stay as they are."""
    try:
        return time.mktime(time.strptime(line[:19], _TIME))
    except ValueError:
        return 0.0


class Follower:
    """Reads what is added to the log of a unit from now on."""

    def __init__(self, name: str) -> None:
        self._path = path(name)
        self._place = os.path.getsize(self._path) if os.path.exists(self._path) else 0
        self._inode = self._current()

    def _current(self) -> int:
        return os.stat(self._path).st_ino if os.path.exists(self._path) else 0

    def new(self) -> list[str]:
        """The whole lines since the last time."""
        if (inode := self._current()) != self._inode:
            self._inode, self._place = inode, 0
        if not inode:
            return []
        with open(self._path, "rb") as stream:
            stream.seek(self._place)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._place += len(whole)
        return _readable(whole)
