"""The events of a supervisor: a child has ended, an order to stop, a message of its service; decides nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Sequence

from sysenv_ns.within.logs import Log


class Events:
    """Takes the place of this process's signal handlers, and collects what is said to a log and by sd_notify(3)."""

    def __init__(self, log: Log, path: str) -> None:
        """`path`: where the socket of sd_notify shall be; empty for none."""
        self.ended: dict[int, int] = {}  # wait statuses of processes, as os.waitpid gives them
        self.told_to_stop = False
        self.socket = path
        self._log = log
        self._listener = _listen(path) if path else None
        self._woken, waker = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            # A filter asks the tool about some calls, rename(2) for one: a signal would interrupt their wait.
            signal.siginterrupt(number, False)

    def _on_stop(self, *_: object) -> None:
        self.told_to_stop = True

    def reap(self) -> None:
        """Note which processes have ended: its own, and the orphans that they have left it."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.ended[pid] = status

    def next(self, patience: float) -> list[tuple[str, str]]:
        """Wait until something happens, or so many seconds; what the service has said of itself, by key."""
        self.watch([self._listener.fileno()] if self._listener else [], patience)
        return self._heard()

    def watch(self, sources: Sequence[int], patience: float) -> list[int]:
        """Wait until something happens, or so many seconds; those of these descriptors that can be read."""
        ready, _, _ = select.select([self._woken, self._log.reader, *sources], (), (), patience)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass
        self._log.collect()
        return [descriptor for descriptor in ready if descriptor in sources]

    def _heard(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        if self._listener is not None:
            with contextlib.suppress(BlockingIOError):
                while message := self._listener.recv(4096):
                    rows = (line.partition("=") for line in message.decode("utf-8", "replace").splitlines())
                    found += [(key, value) for key, _, value in rows]
        return found

    def close(self) -> None:
        """Nobody is listened to any more."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.socket)


def _listen(path: str) -> socket.socket:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.setblocking(False)
    return listener
