"""Boots the systemd of an environment, and stays above it on the host's side until it ends.

It is the parent of process 1, in none of its namespaces: it holds no mount, and keeps no environment running. It passes
on the wish to end, and deletes the control group afterwards, which nobody else could: parts of it belong to
subordinate ids.

    the session, or a service manager        starts it, in a control group of the user's
    the keeper          Delegate=yes         this module
    a child             the environment's user and mount namespace (session.py); ends when all is up
    process 1           its own process, control group and IPC namespace
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress

from sysenv_ns import init, session
from sysenv_ns.basics import opened
from sysenv_ns.environment import running, state
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.host import standins
from sysenv_ns.inside import boot
from sysenv_ns.kernel import cgroups, children, namespace, syscalls
from sysenv_ns.kernel.emulation import Emulation
from sysenv_ns.reporter import Reporter
from sysenv_ns.supervised import emulation_of

_BOOT_PATIENCE = 20.0  # seconds for all that is enabled to have started, or failed; then it goes on by itself
_WISHES = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SOCKET = f"{os.path.dirname(boot.SIGN)}/ready"
# RemoveIPC= of a service deletes what its user has in shared memory: also on the host, if that was the host's.
_MOUNTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("proc", "/proc", ()),
    ("cgroup2", "/sys/fs/cgroup", ()),
    ("tmpfs", "/dev/shm", ("mode=1777",)),
    ("tmpfs", boot.JOURNAL_OF_HOST, ("mode=755",)),
)
_VARIABLES = {"container": "sysenv-ns", "PATH": standins.ROOT_PATH}
_GROUP_HINT = (
    "start your own service manager, which gives you one: loginctl enable-linger; or have root start a shell of yours "
    "in one: systemd-run --uid=USER -p Delegate=yes --pty bash"
)


def keep(store: Store, name: str, reporter: Reporter) -> None:
    """Boot an environment and wait for its end; return at once if it runs already. Raises SysenvError.

    Whoever has started this is told when it is up (sd_notify(3)).
    """
    group = None
    # Until it is up they wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, (*_WISHES, signal.SIGCHLD))
    try:
        with store.lock(name):
            environment = store.load(name)
            init.require(environment.id_map, name)
            if running.lives(environment):
                _tell()
                return
            group = _group(environment)
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
            process = _boot(store, environment, group, reporter)
            state.name_process(environment, process)
        _tell()
        _await_end(process)
    finally:
        if group is not None:
            _remove(environment, group)


def _group(environment: Environment) -> str:
    try:
        group = cgroups.make(f"sysenv-ns-{environment.name}-{os.getpid()}")
    except OSError as error:
        raise SysenvError(
            f"no control group can be made for {environment.name}: {reason(error)}", _GROUP_HINT
        ) from error
    if group is None:
        raise SysenvError(
            "systemd as process 1 needs a control group (cgroup2) that is yours, and this process is in none",
            _GROUP_HINT,
        )
    return group


def _boot(store: Store, environment: Environment, group: str, reporter: Reporter) -> int:
    """The number of process 1, when it is up. Raises SysenvError."""
    with opened(os.open(f"{group}/{cgroups.PROCESSES}", os.O_WRONLY | os.O_CLOEXEC)) as entry:
        return children.call(lambda: _inside(store, environment, entry, reporter), int, "sysenv-ns-boot")


def _inside(store: Store, environment: Environment, entry: int, reporter: Reporter) -> int:
    os.umask(0o022)
    emulated = emulation_of(store, environment, manager=True)
    own = boot.wanted(environment.uppers())
    session.start(store, environment, reporter, emulated=emulated)
    namespace.become_root()
    program = init.program()
    if program is None:
        name = environment.name
        raise SysenvError(
            f"{name} has no systemd to be its process 1",
            f"install it: sysenv-ns exec --no-init {name} -- apt-get install systemd",
        )
    boot.prepare(environment.name, own)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(_SOCKET)
        syscalls.unshare(syscalls.CLONE_NEWPID)
        failed, failure_end = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                _become_first(program, entry, emulated)
            except (OSError, SysenvError) as error:
                said = error.message if isinstance(error, SysenvError) else f"{error.filename or ''}: {reason(error)}"
                os.write(failure_end, said.encode("utf-8", "surrogateescape"))
            finally:
                os._exit(1)
        os.close(failure_end)
        with os.fdopen(failed, "rb") as stream:
            if why := stream.read():
                raise SysenvError(
                    f"process 1 of {environment.name} cannot be started: {why.decode(errors='replace')}",
                    "docs/services.md has what it needs",
                )
        _await_ready(environment.name, process, ready, reporter)
    os.unlink(_SOCKET)
    return process


def _become_first(program: str, entry: int, emulated: Emulation | None) -> None:
    """Be the environment's systemd. Raises OSError, SysenvError; does not return."""
    os.write(entry, b"0")
    syscalls.unshare(syscalls.CLONE_NEWCGROUP | syscalls.CLONE_NEWIPC)
    for kind, place, options in _MOUNTS:
        try:
            if os.path.isdir(place):
                syscalls.attach(syscalls.new_filesystem(kind, options), place)
        except OSError as error:
            raise SysenvError(f"{kind} cannot be mounted on {place} ({reason(error)})") from error
    os.setsid()
    os.chdir("/")
    if emulated is not None:
        emulated.load()
    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execve(program, [program, "--system", "--show-status=0"], {**_VARIABLES, init.NOTIFY: _SOCKET})


def _await_ready(name: str, process: int, ready: socket.socket, reporter: Reporter) -> None:
    """Wait until all that is enabled has been started. Raises SysenvError if process 1 ends before."""
    deadline = time.monotonic() + _BOOT_PATIENCE
    with opened(os.pidfd_open(process)) as ended:
        while (left := deadline - time.monotonic()) > 0:
            found, _, _ = select.select([ready.fileno(), ended], [], [], left)
            if ready.fileno() in found and init.READY in ready.recv(4096).split(b"\n"):
                return
            if ended in found:
                status = children.reap(process)
                raise SysenvError(
                    f"systemd has ended while it booted {name} (status {status})",
                    f"look what is wrong in it: sysenv-ns exec --no-init {name} -- sh",
                )
    reporter.notice(f"some services of {name} are still starting: systemctl list-jobs")


def _tell() -> None:
    """Say that it is up to whoever has started this, if that wants to know (sd_notify(3))."""
    if address := os.environ.get(init.NOTIFY):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.sendto(init.READY, f"\0{address[1:]}" if address.startswith("@") else address)


def _await_end(process: int) -> None:
    """Wait for the end of process 1; once asked to end, let it power off."""
    ended = os.pidfd_open(process)
    deadline = None
    while not select.select([ended], [], [], 0)[0]:
        _reap()
        left = None if deadline is None else deadline - time.monotonic()
        told = (
            signal.sigwaitinfo((*_WISHES, signal.SIGCHLD))
            if left is None
            else signal.sigtimedwait((*_WISHES, signal.SIGCHLD), max(0, left))
        )
        if told is None:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
            deadline = None
        elif told.si_signo in _WISHES and deadline is None:
            deadline = time.monotonic() + init.PATIENCE
            signal.pidfd_send_signal(ended, init.POWER_OFF)
    _reap()


def _reap() -> None:
    """Let go of children that have ended: those of the child that has booted it are this process's, too."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _remove(environment: Environment, group: str) -> None:
    """Delete the group, in which nobody is any more."""
    with suppress(OSError, SysenvError):
        namespace.run_inside(environment.id_map, lambda: cgroups.clear(group), "sysenv-ns-group")
        cgroups.remove(group)
