"""Has a command run on the host, and is to terminal and caller what that is: called inside.

With a terminal for input and output the command has one of its own outside, and what is typed and shown is passed on
here; the one here passes every key through meanwhile. Without, the command has the very streams of this process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import termios
import tty
from collections.abc import Iterator
from typing import NoReturn

from sysenv_ns.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, SysenvError, reason
from sysenv_ns.host_commands import request
from sysenv_ns.host_commands.request import HostCommand, Message
from sysenv_ns.kernel import children, visits
from sysenv_ns.paths import current_directory
from sysenv_ns.reporter import Reporter

_INPUT, _OUTPUT = 0, 1
_CHUNK = 65536
_PASSED = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP),
    signal.SIGCONT,
)


def run(arguments: tuple[str, ...], reporter: Reporter) -> int:
    """The exit status of a command of the host, or its signal as a negative number. Raises SysenvError."""
    terminal = os.isatty(_INPUT) and os.isatty(_OUTPUT) and os.tcgetpgrp(_INPUT) == os.getpgrp()
    umask = os.umask(0o077)
    os.umask(umask)
    variables = {name: os.environ[name] for name in request.VARIABLES if name in os.environ}
    directory = current_directory()
    command = HostCommand(tuple(map(os.fsencode, arguments)), os.fsencode(directory), umask, variables, terminal)
    signals = _caught_signals()  # from before it is started: what comes meanwhile is passed on too
    with _connected() as connection:
        request.ask(connection, command)
        message, descriptors = request.told(connection)
        if message is None or message.kind in ("refused", "failed"):
            raise _failure(arguments[0], message)
        if message.value:
            reporter.notice(
                f"{directory or 'the current directory'} does not exist on the host; now in your home there"
            )
        return _Attendance(connection, signals, *descriptors).status()


def _caught_signals() -> int:
    """A descriptor with the numbers of the signals that this process gets from now on, which do nothing else to it."""
    wakeup, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (*_PASSED, signal.SIGWINCH):
        if signal.getsignal(number) != signal.SIG_IGN:  # for example by nohup
            signal.signal(number, lambda number, frame: None)
    return wakeup


@contextlib.contextmanager
def _connected() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        try:
            with theirs:
                visits.call(theirs.fileno())
        except OSError as error:
            raise _unanswered(error) from error
        yield ours


def _unanswered(error: OSError) -> SysenvError:
    if error.errno == errno.EPERM:
        return SysenvError(
            "only programs that run as you can run commands on the host",
            "root of an environment, its other users, and containers there cannot have any: "
            "use a shell of yours, or exec --me",
        )
    return SysenvError(
        f"nothing on the host's side answers ({reason(error)})",
        "there is none with the driver root, in sessions of an earlier version, and for confined programs "
        "(no_new_privs, a namespace or filter of their own)",
    )


def _failure(name: str, message: Message | None) -> SysenvError:
    if message is None:
        return SysenvError("the process that runs it on the host has ended", "try again")
    if message.kind == "refused":
        return SysenvError("config.toml forbids commands on the host", "it has host-commands = false, or an error")
    if message.value in (errno.ENOENT, errno.ENOTDIR):
        return SysenvError(
            f"{name}: command not found on the host", "programs of the environment need no `host run`", EXIT_NOT_FOUND
        )
    why = os.strerror(message.value)
    hint = "it runs as you there, with your permissions"
    return SysenvError(f"{name} cannot be executed on the host: {why}", hint, EXIT_NOT_EXECUTABLE)


class _Attendance:
    """What goes on while the command runs; `signals` are for it, `master` is the other end of its terminal."""

    def __init__(self, connection: socket.socket, signals: int, master: int = -1) -> None:
        self._connection = connection
        self._master = master
        self._typed = b""  # and not yet taken
        self._signals = signals
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._poll.register(signals, select.POLLIN)
        if master >= 0:
            os.set_blocking(master, False)
            self._poll.register(_INPUT, select.POLLIN)
            self._poll.register(master, select.POLLIN)

    def status(self) -> int:
        """Wait for its end. Raises SysenvError when it is not told of."""
        while True:
            with self._raw():
                message = self._next()
            if message is None:
                raise _failure("", None)
            if message.kind == "ended":
                return message.value
            os.kill(os.getpid(), signal.SIGSTOP)  # it has stopped, and the shell waits for this process
            request.tell(self._connection, Message("continue"))

    def _next(self) -> Message | None:
        self._resize()
        while True:
            ready = dict(self._poll.poll())
            if _INPUT in ready:
                self._read()
            if ready.get(self._master, 0) & select.POLLOUT:
                self._type()
            if ready.get(self._master, 0) & ~select.POLLOUT and not self._show():
                self._poll.unregister(self._master)
            if self._signals in ready:
                self._signalled()
            if self._connection.fileno() in ready:
                message, _ = request.told(self._connection)
                while self._master >= 0 and self._show():
                    continue
                return message

    def _read(self) -> None:
        self._typed = os.read(_INPUT, _CHUNK)
        self._poll.unregister(_INPUT)
        if self._typed:
            self._poll.modify(self._master, select.POLLIN | select.POLLOUT)

    def _type(self) -> None:
        """A command that reads nothing takes no more than a terminal's buffer, and may have something to show."""
        self._typed = self._typed[os.write(self._master, self._typed) :]
        if not self._typed:
            self._poll.modify(self._master, select.POLLIN)
            self._poll.register(_INPUT, select.POLLIN)

    def _show(self) -> bool:
        """Pass on what the command has to show; whether there was something."""
        try:
            data = os.read(self._master, _CHUNK)
        except OSError:  # EAGAIN; EIO of a terminal that no program has open any more
            return False
        children.write_all(_OUTPUT, data)
        return bool(data)

    def _signalled(self) -> None:
        for number in os.read(self._signals, _CHUNK):
            if number == signal.SIGWINCH:
                self._resize()
            elif number in _PASSED:
                request.tell(self._connection, Message("signal", number))

    def _resize(self) -> None:
        if self._master >= 0:
            termios.tcsetwinsize(self._master, termios.tcgetwinsize(_INPUT))

    @contextlib.contextmanager
    def _raw(self) -> Iterator[None]:
        if self._master < 0:
            yield
            return
        before = termios.tcgetattr(_INPUT)
        tty.setraw(_INPUT, termios.TCSADRAIN)
        try:
            yield
        finally:
            termios.tcsetattr(_INPUT, termios.TCSADRAIN, before)


def become(arguments: tuple[str, ...]) -> NoReturn:
    """Be a command, on the host itself. Raises SysenvError."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these two
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(arguments[0], arguments)
    except OSError as error:
        raise _failure(arguments[0], Message("failed", error.errno or errno.EIO)) from error
