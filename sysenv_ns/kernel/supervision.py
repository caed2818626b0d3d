"""What the supervisor's process does from its beginning to its end.

It loads what it needs by itself, beside the session, and does for that what only a process on the host's side can do: a
user namespace with a full id map. Then it answers calls.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import struct

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import signal, suppress
from sysenv_ns.kernel import answers, children, namespace, outcome, unotify
from sysenv_ns.kernel.answers import Action, Answer, Calls
from sysenv_ns.kernel.caller import CallingThread
from sysenv_ns.kernel.unotify import Notification
from sysenv_ns.kernel.writeback import INTERVAL, Writeback

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from sysenv_ns.kernel.duties import Duties
    from sysenv_ns.kernel.idmap import IdMap

    _T = TypeVar("_T")

_MESSAGE = 1 << 16  # bytes, more than any has


def serve(connection: _socket.socket, id_map: IdMap, calls: Calls, duties: Duties) -> None:
    """Be the supervisor: see supervisor.py for what the other end of the connection sends."""
    gc.freeze()  # what it shares with the session shall stay shared
    gc.enable()
    changes, visitors = duties.changes, duties.visitors
    watch = duties.watch() if duties.watch is not None else None  # with what it imports
    message, rights = _receive(connection)
    if message and not rights:
        _make_namespace(connection, id_map)
        message, rights = _receive(connection)
    connection.close()
    if not rights:  # the session failed before it came to its command
        return
    (listener,) = struct.unpack("i", rights)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    watched = watch.open() if watch is not None else None
    if watched is not None:
        poll.register(watched, select.POLLIN)
    writeback = _opened(lambda: Writeback(changes.parent)) if changes else None
    names = _opened(lambda: answers.UpperNames.of(changes, listener)) if changes else None
    visit = answers.visits_by(visitors, tuple(map(int, message.split()))) if visitors else None
    while True:
        ready = dict(poll.poll(int(INTERVAL * 1000) if writeback else None))
        with suppress(OSError):  # the limit of processes, or a disk that fails: the next time, perhaps
            if writeback:
                writeback.due()
            if watch is not None and watched in ready:
                watch.handle()
        if listener not in ready:
            continue
        if not ready[listener] & select.POLLIN:  # POLLHUP: no process is under the filter any more
            return
        try:
            call = unotify.receive(listener)
            action = answers.plan(call, calls, names, visit)
            if action is None:
                unotify.respond(listener, call.ident, None)
            else:
                _act(listener, call, action)
        except OSError:  # its thread was killed meanwhile
            continue


def _receive(connection: _socket.socket) -> tuple[bytes, bytes]:
    """A message and the descriptor that came with it; nothing when the session has ended."""
    message, ancillary, _, _ = connection.recvmsg(_MESSAGE, _socket.CMSG_SPACE(4))
    return message, ancillary[0][2] if ancillary else b""


def _make_namespace(connection: _socket.socket, id_map: IdMap) -> None:
    """Send a user namespace with this full id map, or why there is none."""
    made: list[int] = []
    report, _ = outcome.told(lambda: made.append(namespace.make_full(id_map)))
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", descriptor)) for descriptor in made]
    with suppress(BrokenPipeError):  # the session has ended
        connection.sendmsg([report], rights)
    for descriptor in made:
        os.close(descriptor)


def _opened(opener: Callable[[], _T]) -> _T | None:
    try:
        return opener()
    except OSError:
        return None


def _act(listener: int, call: Notification, action: Action) -> None:
    """In a worker: a caller that waits, for a slow file system for example, must not delay the others."""
    try:
        worker = os.fork()
    except OSError:
        worker = -1
    if worker > 0:
        return
    answer: Answer = None
    try:
        if worker == 0:
            children.forbid_tracing()  # by who is in the namespaces that it enters
            answer = action(CallingThread.of(listener, call))
    except OSError:  # it could not become the caller: the kernel shall refuse it
        pass
    finally:
        try:
            unotify.respond(listener, call.ident, answer if isinstance(answer, int) else None)
            if callable(answer):
                os.close(listener)
                answer()
        finally:
            if worker == 0:
                os._exit(0)
