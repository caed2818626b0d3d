"""A command in an environment: who runs it, with which variables, and how this process becomes it. Enters nothing."""

from __future__ import annotations

import errno
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import signal
from sysenv_ns.environment.description import Environment
from sysenv_ns.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, SysenvError, reason
from sysenv_ns.host import services
from sysenv_ns.host.standins import ROOT_PATH
from sysenv_ns.kernel import idmap
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal, NoReturn, TypeAlias

    from sysenv_ns.sudo import Caller

Identity: TypeAlias = "Literal['root', 'me']"
# "linked": the user where the id map has one, else root in the user's home.
Asked: TypeAlias = "Literal['root', 'me', 'linked']"

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_FALLBACK_SHELLS = ("/bin/bash", "/bin/sh")


@dataclass(frozen=True)
class Command:
    """A program with its arguments; None is the login shell. `identity` is the user; None leaves that to the verb.

    `caller` is the user for whom root acts through sudo; `variables` override all others; it runs in `directory`.
    """

    arguments: tuple[str, ...] | None
    identity: Asked | None
    caller: Caller | None = None
    variables: tuple[tuple[str, str], ...] = ()
    directory: str = ""


def identity_of(environment: Environment, command: Command) -> Identity:
    """Who runs it. Raises SysenvError where that is the user and nobody but root exists."""
    if command.identity == "me" and environment.root_only:
        raise SysenvError(
            f"{environment.name} has the single id map: nobody but root exists inside, so --me is not possible",
            _way_to_full(environment),
        )
    if command.identity in ("root", "me"):
        return command.identity
    mine = command.arguments is None or command.identity == "linked"
    return "me" if mine and not environment.root_only else "root"


def _way_to_full(environment: Environment) -> str:
    """The hint for having the user inside; an environment keeps its id map."""
    from sysenv_ns import policy

    if "full" not in policy.DRIVERS[environment.driver]:
        return f"the driver {environment.driver} has no other one: `sysenv-ns doctor` tells which drivers work here"
    try:
        idmap.detect_full()
    except SysenvError as error:
        return f"{error.hint}; then make an environment with --id-map full"
    return "make an environment with --id-map full: that works here now"


def variables_of(
    environment: Environment, identity: Identity, command: Command, configured: tuple[tuple[str, str], ...] = ()
) -> dict[str, str]:
    """The environment variables of the command: the caller's, those of the settings, and root's own if root runs it."""
    variables = as_given(os.environ if command.caller is None else command.caller.variables) | dict(configured)
    variables = services.VARIABLES | variables | {"SYSENV_NS": environment.name}
    if identity != "root":
        variables["PATH"] = f"{services.PROGRAMS}:{variables.get('PATH', ROOT_PATH)}"
    else:
        variables["PATH"] = ":".join(root_path(variables.get("PATH", "")))
        # In the single map root's home and shell are the caller's; otherwise root must not litter that home.
        others = not environment.by_root or command.caller is not None  # root is somebody else than the caller
        as_caller = command.identity == "linked" or (command.arguments is None and command.identity != "root")
        if others and not as_caller:
            variables |= {"USER": "root", "LOGNAME": "root"} | ({} if environment.root_only else {"HOME": "/root"})
        if others:
            variables |= _sudo_variables(environment, command)
    if environment.init:
        variables.pop(services.OFFLINE, None)  # there is a manager
    variables |= dict(command.variables)
    return variables


def _sudo_variables(environment: Environment, command: Command) -> dict[str, str]:
    """The variables by which sudo names its caller (sudo(8)): with these, git trusts that user's repositories."""
    id_map, caller = environment.id_map, command.caller
    uid, gid = (id_map.own_uid, id_map.own_gid) if id_map else (caller.uid, caller.gid) if caller else (0, 0)
    if uid == 0:
        return {}
    name = (os.environ if caller is None else caller.variables).get("USER", "")
    return {"SUDO_UID": str(uid), "SUDO_GID": str(gid), **({"SUDO_USER": name} if name else {})}


def own_variables(name: str) -> dict[str, str]:
    """The environment variables of commands that the tool itself runs in an environment, as its root."""
    proxies = {name: os.environ[name] for name in _PROXIES if name in os.environ}
    own = {"PATH": f"{services.PROGRAMS}:{ROOT_PATH}", "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    return services.VARIABLES | proxies | own | {"DEBIAN_FRONTEND": "noninteractive", "SYSENV_NS": name}


def root_path(path: str) -> list[str]:
    """The PATH of root of an environment, for a caller with this PATH."""
    directories = [services.PROGRAMS, *(p for p in path.split(":") if p)]
    return [*directories, *(p for p in ROOT_PATH.split(":") if p not in directories)]


def as_given(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables with the LC_CTYPE that this process was started with: Python sets it in the C locale (PEP 538)."""
    started_with = Path("/proc/self/environ").read_bytes().split(b"\0")
    values = [os.fsdecode(entry.partition(b"=")[2]) for entry in started_with if entry.startswith(b"LC_CTYPE=")]
    others = {name: value for name, value in variables.items() if name != "LC_CTYPE"}
    return others | ({"LC_CTYPE": values[0]} if values else {})


def become(arguments: tuple[str, ...], variables: dict[str, str]) -> NoReturn:
    """Replace this process by a command. Raises SysenvError with the exit status that a shell would have."""
    # Python ignores these two; the command shall find what the caller had.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    failure = _execute(arguments, variables)
    if failure.errno in (errno.ENOENT, errno.ENOTDIR):
        raise SysenvError(f"{arguments[0]}: command not found in the environment", exit_status=EXIT_NOT_FOUND)
    raise SysenvError(f"{arguments[0]} cannot be executed: {reason(failure)}", exit_status=EXIT_NOT_EXECUTABLE)


def _execute(arguments: tuple[str, ...], variables: dict[str, str]) -> OSError:
    """execvpe(3); Python's own imports modules on the way. Returns only in case of an error."""
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


def login_shell(variables: Mapping[str, str]) -> str:
    """The shell of these variables if it is there, else one that is."""
    for path in (variables.get("SHELL", ""), *_FALLBACK_SHELLS):
        if path.startswith("/") and os.access(path, os.X_OK):
            return path
    return _FALLBACK_SHELLS[-1]
