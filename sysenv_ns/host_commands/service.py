"""Runs one command on the host for a program inside: as the user, with the variables of who started the session.

This process is alone in a session of its own, which the terminal belongs to that the command may get. It tells how the
command fares, gives it the signals that it is told to, and hangs up when the other side has gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import termios
from collections.abc import Callable, Mapping
from dataclasses import replace

from sysenv_ns.errors import SysenvError
from sysenv_ns.host_commands import request
from sysenv_ns.host_commands.request import HostCommand, Message

_STOPPABLE = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_OF_KEYS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT)
_HIGH = 10  # beyond the standard streams


def serve(descriptor: int, variables: Mapping[str, str], is_allowed: Callable[[], bool]) -> None:
    """Run the command that is asked for over this socket, and come back when it is over.

    `variables` are those of who started the session. Raises OSError, ValueError.
    """
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    os.close(descriptor)
    while os.open(os.devnull, os.O_RDWR) < _HIGH:  # no number of a standard stream shall be anything else's
        continue
    with socket.socket(fileno=high) as connection:
        command, streams = request.asked(connection)
        try:
            allowed = is_allowed()
        except SysenvError:  # the settings are wrong, and may forbid it
            allowed = False
        if not allowed:
            request.tell(connection, Message("refused"))
            return
        _run(connection, replace(command, variables={**variables, **command.variables}), streams)


def _run(connection: socket.socket, command: HostCommand, streams: list[int]) -> None:
    wakeup, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGHUP, *_STOPPABLE):  # of the terminal, to who leads its session: the command gets them
        signal.signal(number, signal.SIG_IGN)
    terminal: tuple[int, ...] = ()
    if command.terminal:
        master, slave = _terminal_like(next(filter(os.isatty, streams)))
        terminal = (master,)
        streams = [slave if os.isatty(stream) else stream for stream in streams]
    there = _enter(command.directory)
    pid, failure = _spawn(command, streams)
    if failure:
        request.tell(connection, Message("failed", failure))
        return
    for stream in {*streams}:
        os.close(stream)  # who reads to the end of a pipe waits for the command alone
    request.tell(connection, Message("started", int(not there)), terminal)
    for descriptor in terminal:
        os.close(descriptor)
    _attend(connection, pid, wakeup)


def _terminal_like(other: int) -> tuple[int, int]:
    """Both ends of a new terminal, which is that of this session. Raises OSError, ValueError."""
    master, slave = os.openpty()
    try:
        termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(other))
        termios.tcsetwinsize(master, termios.tcgetwinsize(other))
    except termios.error as error:
        raise ValueError("it is no terminal") from error
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return master, slave


def _enter(directory: bytes) -> bool:
    for path in (directory, os.fsencode(os.environ.get("HOME", "/")), b"/"):
        with contextlib.suppress(OSError, ValueError):
            os.chdir(path)
            return path == directory
    return False


def _spawn(command: HostCommand, streams: list[int]) -> tuple[int, int]:
    """Its process, and 0 or the errno why there is none."""
    said, saying = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            _become(command, streams)
        except (OSError, ValueError) as error:
            os.write(saying, str(getattr(error, "errno", None) or errno.EINVAL).encode())
        finally:
            os._exit(127)
    os.close(saying)
    with open(said, "rb") as stream:
        failure = int(stream.read() or b"0")
    if failure:
        os.waitpid(pid, 0)
    return pid, failure


def _become(command: HostCommand, streams: list[int]) -> None:
    """In a process group of its own, in front of the terminal if it has one. Raises OSError, ValueError."""
    os.setpgid(0, 0)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    if command.terminal:
        os.tcsetpgrp(next(filter(os.isatty, range(len(streams)))), os.getpgrp())  # SIGTTOU is ignored yet
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(command.umask)
    os.execvpe(command.arguments[0], command.arguments, command.variables | {"PWD": os.getcwd()})


def _attend(connection: socket.socket, pid: int, wakeup: int) -> None:
    """Until the other side has gone, which it does when it knows of the command's end. Raises OSError, ValueError."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    running = True
    while True:
        ready = dict(poll.poll())
        if wakeup in ready:
            os.read(wakeup, 4096)
            running = running and _goes_on(connection, pid)
        if connection.fileno() in ready:
            message, _ = request.told(connection)
            if running:
                _signal(pid, message)
            if message is None:
                return


def _signal(pid: int, message: Message | None) -> None:
    """What keys of a terminal do is for all that the command has started too; so is that the other side has gone."""
    with contextlib.suppress(OSError):  # it has become root, as sudo, or left its group
        if message is None:
            os.killpg(pid, signal.SIGHUP)
        if message is None or message.kind == "continue":
            os.killpg(pid, signal.SIGCONT)
        elif message.value in _OF_KEYS:
            os.killpg(pid, message.value)
        else:
            os.kill(pid, message.value)


def _goes_on(connection: socket.socket, pid: int) -> bool:
    """Tell what has become of the command."""
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if not found:
        return True
    if os.WIFSTOPPED(status):
        request.tell(connection, Message("stopped", os.WSTOPSIG(status)))
        return True
    request.tell(connection, Message("ended", os.waitstatus_to_exitcode(status)))
    return False
