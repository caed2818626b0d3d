"""Keeps the copies in bases of a few files in the host's /etc up to date, while environments run.

A laptop that roams gets another resolv.conf, and running environments should follow, until they have a file of their
own, which hides the copy. So the copy is written to in place, which overlayfs shows at once for a file that
has not been copied up. The supervisor of each session watches (inotify(7)); bases of the same store share the work.
"""

from __future__ import annotations

import errno
import os
import select
import struct

from sysenv_ns import policy
from sysenv_ns.basics import opened, signal, suppress
from sysenv_ns.files import reader
from sysenv_ns.kernel import children, namespace, syscalls
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.paths import Path

_ETC = "/etc"
_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, length of the name that follows
_BUFFER = 65536  # bytes
_SETTLING = 100  # milliseconds: who changes one of these files often changes another one too
_SCANT = (errno.EMFILE, errno.ENFILE, errno.ENOSPC)  # of watches a user has a limited number


class LiveFiles:
    """The watch of one session over the host's files."""

    def __init__(self, bases: Path, id_map: IdMap) -> None:
        """`bases`: where the store keeps them."""
        self.bases = bases
        self.id_map = id_map
        self._inotify = self._directory = -1

    def open(self) -> int | None:
        """Begin to watch; a descriptor that is readable when something has happened, None if the kernel has no more."""
        try:
            self._inotify = syscalls.inotify_init()
            self._directory = syscalls.inotify_add_watch(self._inotify, _ETC, syscalls.IN_REPLACED)
        except OSError as error:
            if error.errno not in _SCANT:
                raise
            return None
        self._watch_files()
        return self._inotify

    def handle(self) -> None:
        """Handle what has happened; if it concerns one of the files, a separate process updates the copies."""
        if not self._concerned():
            return
        settled = select.poll()
        settled.register(self._inotify, select.POLLIN)
        while settled.poll(_SETTLING):
            self._concerned()
        self._watch_files()
        if os.fork() == 0:
            try:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                update(self.bases, self.id_map)
            finally:
                os._exit(0)

    def _watch_files(self) -> None:
        """Those that are mounts of their own, as in containers, are not seen in the directory."""
        for path in policy.LIVE_FILES:
            with suppress(OSError):
                syscalls.inotify_add_watch(self._inotify, path, syscalls.IN_CLOSE_WRITE)

    def _concerned(self) -> bool:
        """Read the pending events; whether one is about a live file."""
        names = {os.fsencode(path.rpartition("/")[2]) for path in policy.LIVE_FILES}
        events, found = os.read(self._inotify, _BUFFER), False
        while events:
            watch, _, _, length = _EVENT.unpack_from(events)
            name = events[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
            found |= watch != self._directory or name in names
            events = events[_EVENT.size + length :]
        return found


def update(bases: Path, id_map: IdMap) -> None:
    """Give the copies in all bases of this id map the content that the host's files have now."""
    contents = {path: content for path in policy.LIVE_FILES if (content := reader.get(path, follow=True)) is not None}

    def write() -> None:
        for tree in bases.glob("*/etc-*/tree"):
            with reader.Root(tree) as root:
                for path, content in contents.items():
                    _write(root, path, content)

    namespace.run_inside(id_map, write, "sysenv-ns-etc")


def _write(layer: reader.Root, path: str, content: bytes) -> None:
    """Write a copy in place. What is not a copy, or belongs to another id map, is not touched."""
    with suppress(OSError):
        if layer.read(path) == content:
            return
        # By its own name in /proc: no link is followed on the way to what the layer has opened.
        with opened(layer.open(path)) as read_only:
            descriptor = os.open(f"/proc/self/fd/{read_only}", os.O_WRONLY | os.O_CLOEXEC)
        with opened(descriptor):
            children.write_all(descriptor, content)
            os.ftruncate(descriptor, len(content))
