"""shell and exec: start or join an environment and become the command. Nothing stays between terminal and command.

After the pivot nothing may be imported: it would come from the environment's own files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

from sysenv_ns import running, sudo
from sysenv_ns.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, SysenvError, reason
from sysenv_ns.host import config, refresh, services
from sysenv_ns.host.standins import ROOT_PATH
from sysenv_ns.kernel import children, emulation, namespace, operations
from sysenv_ns.kernel.idmap import UIDMAP_HINT
from sysenv_ns.lower import base, drivers
from sysenv_ns.packages import origin
from sysenv_ns.store import Environment, Store
from sysenv_ns.sudo import Caller
from sysenv_ns.upper import ephemeral

Identity = Literal["root", "me"]
# "linked": the user where the id map has one, else root in the user's home.
Asked = Literal["root", "me", "linked"]

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_FALLBACK_SHELLS = ("/bin/bash", "/bin/sh")


@dataclass(frozen=True)
class Reporter:
    """How a session speaks to the user: notices, one line per operation for -v, and a progress bar."""

    notice: Callable[[str], None]
    operation: Callable[[str], None]
    progress: base.ProgressBar


@dataclass(frozen=True)
class Command:
    """A program with its arguments; None is the login shell. `identity` is who runs it; None leaves it to the verb.

    `caller` is whom root acts for by way of sudo.
    """

    arguments: tuple[str, ...] | None
    identity: Asked | None
    caller: Caller | None = None


def run(store: Store, environment: Environment, command: Command, reporter: Reporter) -> NoReturn:
    """Enter the environment, starting it if it does not run, and become the command. Raises SysenvError."""
    sudo.require(environment)
    identity = _identity(environment, command)
    directory = _current_directory()
    # Loads a library and starts its supervisor: before the pivot and before there is a lock to be inherited.
    emulated = emulation.Emulation(environment.id_map.kind) if environment.id_map else None
    variables = _variables(environment, identity, command)
    if command.arguments is None and (shell := config.of_environment(store, environment).shell):
        variables["SHELL"] = shell
        command = replace(command, arguments=(shell,))
    with store.lock(environment.name):
        if enter(store, environment, reporter):
            reporter.notice(
                f"the host has changed since {environment.name} was started; stop it to see the new files: "
                f"sysenv-ns stop {environment.name}"
            )
        _change_directory(directory, variables, reporter)
        if identity == "root" and environment.id_map is not None:
            namespace.become_root()
        if emulated is not None:
            emulated.load()
        if command.caller is not None:
            os.umask(command.caller.umask)
        if identity == "me" and command.caller is not None:
            command.caller.become()
        _become(command, variables)


def enter(store: Store, environment: Environment, reporter: Reporter) -> bool:
    """Move this process into the environment, whose lock it holds. Raises SysenvError.

    Returns whether the host has changed since that was started.
    """
    environment = store.load(environment.name)  # what it is made of may have changed before the lock was taken
    while (process := running.find(environment)) is not None:
        changed = running.host_changed(environment.path)  # while the host's own files are in sight
        if _join(environment, process):
            return changed
        # It ended meanwhile; is there another?
    start(store, environment, reporter)
    return False


def start(store: Store, environment: Environment, reporter: Reporter) -> None:
    """Move this process into a new root made of the environment's layers. Raises SysenvError."""
    for directory in (environment.work, environment.root):  # nothing is kept in them
        directory.mkdir(mode=0o755, exist_ok=True)
    signs = refresh.signs()  # before the base is compared with the host
    host = config.host(store, environment)
    driver = drivers.get(environment.driver)
    with driver.prepare(store, environment, host, reporter.progress) as prepared:
        origin.follow(store, environment)
        namespace.enter(environment.id_map)
        plan = prepared.plan
        if environment.ephemeral is not None:
            plan = ephemeral.planned(plan, environment, reporter.notice)
        root = operations.execute(plan, str(environment.root), reporter.operation)
        # By now nobody else can be mounting this upper; before the pivot, while the store is in reach.
        running.record(environment, prepared.layers, signs)
        namespace.pivot(root)
        os.close(root)


def _join(environment: Environment, process: int) -> bool:
    """Enter the namespaces of a process; False when it has ended. Raises SysenvError."""
    try:
        namespace.join(process)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError as error:
        raise SysenvError(
            f"joining process {process} of {environment.name} failed: {reason(error)}",
            f"end it and try again: sysenv-ns stop {environment.name}",
        ) from error
    return True


def _identity(environment: Environment, command: Command) -> Identity:
    single = environment.id_map is not None and environment.id_map.kind == "single"
    if command.identity == "me" and single:
        raise SysenvError(
            f"{environment.name} has the single id map: nobody but root exists inside, so --me is not possible",
            f"{UIDMAP_HINT}; then make an environment with --id-map full",
        )
    if command.identity in ("root", "me"):
        return command.identity
    mine = command.arguments is None or command.identity == "linked"
    return "me" if mine and not single else "root"


def _variables(environment: Environment, identity: Identity, command: Command) -> dict[str, str]:
    """The environment variables of the command: the caller's, and root's own where root runs it."""
    variables = dict(os.environ)
    # Python sets it in the C locale (PEP 538): the command shall find what the caller had.
    variables.pop("LC_CTYPE", None)
    variables |= _given("LC_CTYPE")
    variables = services.VARIABLES | variables | {"SYSENV_NS": environment.name}
    if identity == "root":
        variables["PATH"] = ":".join(root_path(variables.get("PATH", "")))
        # In the single map the shell's root is the caller, at home; otherwise root must not litter the caller's home.
        others = environment.id_map is not None or command.caller is not None  # root is somebody else than the caller
        at_home = command.identity == "linked" or (command.arguments is None and command.identity != "root")
        if others and not at_home:
            variables |= {"HOME": "/root", "USER": "root", "LOGNAME": "root"}
    return variables


def call_as_root(
    store: Store, environment: Environment, reporter: Reporter, function: Callable[[], object], name: str
) -> object:
    """The result of a function that runs as root inside, in a child that starts the environment and ends with us.

    Raises SysenvError, OSError, and what the function raises.
    """
    id_map = environment.id_map
    emulated = emulation.Emulation(id_map.kind) if id_map else None
    parent = os.getpid()

    def inside() -> object:
        os.umask(0o022)
        start(store, environment, reporter)
        if id_map is not None:
            namespace.become_root()
            children.end_with(parent)  # it holds the environment's lock
        if emulated is not None:
            emulated.load()
        return function()

    return children.call(inside, name)


def own_variables(name: str) -> dict[str, str]:
    """The environment variables of what the tool itself does in an environment of this name, as its root."""
    proxies = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    own = {"PATH": f"{services.PROGRAMS}:{ROOT_PATH}", "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    return services.VARIABLES | proxies | own | {"DEBIAN_FRONTEND": "noninteractive", "SYSENV_NS": name}


def root_path(path: str) -> list[str]:
    """Where root of an environment looks for commands, whose caller has this PATH."""
    directories = [services.PROGRAMS, *(p for p in path.split(":") if p)]
    return [*directories, *(p for p in ROOT_PATH.split(":") if p not in directories)]


def _given(name: str) -> dict[str, str]:
    """A variable with the value that this process was started with; empty when there was none of that name."""
    started_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    values = [os.fsdecode(entry.partition(b"=")[2]) for entry in started_with if entry.startswith(f"{name}=".encode())]
    return {name: values[0]} if values else {}


def _current_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return ""


def _change_directory(directory: str, variables: Mapping[str, str], reporter: Reporter) -> None:
    for path in (directory, variables.get("HOME", "/")):
        with contextlib.suppress(OSError):
            os.chdir(path)
            if path != directory:
                reporter.notice(f"{directory or 'the current directory'} does not exist inside; now in {path}")
            return
    os.chdir("/")


def _become(command: Command, variables: dict[str, str]) -> NoReturn:
    arguments = command.arguments if command.arguments is not None else (_login_shell(variables),)
    # Python ignores these two; the command shall find what the caller had.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    failure = _execute(arguments, variables)
    if failure.errno in (errno.ENOENT, errno.ENOTDIR):
        raise SysenvError(f"{arguments[0]}: command not found in the environment", exit_status=EXIT_NOT_FOUND)
    raise SysenvError(f"{arguments[0]} cannot be executed: {reason(failure)}", exit_status=EXIT_NOT_EXECUTABLE)


def _execute(arguments: tuple[str, ...], variables: dict[str, str]) -> OSError:
    """execvpe(3) without Python's own, which imports modules on the way; returns only an error."""
    name = arguments[0]
    directories = variables.get("PATH", ROOT_PATH).split(":")
    candidates = [name] if "/" in name else [f"{d or '.'}/{name}" for d in directories]
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    for path in candidates if name else ():  # execve(3) in Python refuses an empty name with a ValueError
        error = _try_execute(path, arguments, variables)
        directory_on_path = len(candidates) > 1 and os.path.isdir(path)
        if error.errno not in (errno.ENOENT, errno.ENOTDIR) and not directory_on_path:
            failure = error
    return failure


def _try_execute(path: str, arguments: tuple[str, ...], variables: dict[str, str]) -> OSError:
    try:
        os.execve(path, arguments, variables)
    except OSError as error:
        if error.errno == errno.ENOEXEC and path != "/bin/sh":  # a script without #! line, as execvp(3) does it
            return _try_execute("/bin/sh", ("sh", path, *arguments[1:]), variables)
        return error


def _login_shell(variables: Mapping[str, str]) -> str:
    for path in (variables.get("SHELL", ""), *_FALLBACK_SHELLS):
        if path.startswith("/") and os.access(path, os.X_OK):
            return path
    return _FALLBACK_SHELLS[-1]
