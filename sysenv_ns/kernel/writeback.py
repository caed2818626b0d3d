"""Syncs a file system while files come and go in it, so that a power cut costs no more than on the host.

ext4 writes the data of a file that replaces another one before it notes the new name (ext4(5), auto_da_alloc), as so
many programs forget to fsync(2). Below an overlay it does not see that a host file is replaced: for ext4 the name
is new, and a power cut within half a minute leaves an empty file. An overlay in a user namespace cannot report
its changes (fanotify(7) refuses it), so its whole file system is synced, which costs little after the first time.
"""

from __future__ import annotations

import os
import select
import time

from sysenv_ns.kernel import syscalls
from sysenv_ns.paths import Path

INTERVAL = 2.0  # seconds; ext4 notes new names every five


class Writeback:
    """The file system of one directory; call `due` often: it never waits for a disk."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError."""
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._seen = self._counts()
        self._next = time.monotonic() + INTERVAL
        self._writer = -1  # the process that is writing, or has been

    def due(self) -> None:
        """Begin to sync, in another process, if it is time and something has changed."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + INTERVAL
        counts = self._counts()
        if counts != self._seen and self._is_idle():
            self._seen = counts
            self._write()

    def _counts(self) -> tuple[int, int]:
        """Numbers that every new file changes: free blocks and inodes."""
        found = os.fstatvfs(self._directory)
        return found.f_bfree, found.f_ffree

    def _is_idle(self) -> bool:
        if self._writer < 0:
            return True
        if not select.select([self._writer], [], [], 0)[0]:  # a process that has ended can be read (pidfd_open(2))
            return False
        os.close(self._writer)
        self._writer = -1
        return True

    def _write(self) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                syscalls.syncfs(self._directory)
            finally:
                os._exit(0)
        try:
            self._writer = os.pidfd_open(pid)
        except ProcessLookupError:  # it was that fast, and nobody waits for it
            self._writer = -1
