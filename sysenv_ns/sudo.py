"""Runs the tool again as root through sudo, and tells that root for whom; the only code that runs sudo.

sudo gets an absolute path and a clean environment. What the command gets from the caller (variables, umask) goes
through a file of the store, because sudo clears or changes these and closes all descriptors. Root reads it as
the caller, and takes over for itself only variables that are harmless to it.
"""

from __future__ import annotations

import os
import pwd
import sys

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.basics import contextmanager, opened
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import reader, removal
from sysenv_ns.files.replacement import write_json
from sysenv_ns.kernel import children, processes
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass, replace

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence
    from typing import NoReturn

_HINT = "install sudo and let yourself use it, or use another driver"
_REFUSED = "ask an administrator to let you use it (man sudoers), or use another driver"
_WOULD_ASK = "password is required|authentication is required"  # sudo's; sudo-rs'
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLES = ("HOME", "LANG", "LC_ALL", "TERM", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "SUDO_ASKPASS")
# Of the caller's, what the tool itself looks at or shows something by; nothing that a loader or an interpreter reads.
_TAKEN_OVER = (
    "HOME|USER|LOGNAME|SHELL|PATH|TERM|LANG|LANGUAGE|LC_[A-Z]+|COLUMNS|LINES|NO_COLOR|PAGER|XDG_(CONFIG|DATA)_HOME"
    "|SYSENV_NS|SYSENV_NS_HOME|SOURCE_DATE_EPOCH|(http|https|ftp|all|no)_proxy"
)
_REQUEST = "request.json"
_REQUEST_LIMIT = 64 << 20  # bytes: what execve(2) takes, with six for each
_UMASK = 0o022  # of the tool itself: the caller shall be able to read what root writes into the store


@dataclass(frozen=True)
class Caller:
    """The user for whom root acts through sudo."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int
    variables: Mapping[str, str]  # all of them; the tool's own are some of these

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Act with this user's permissions: nothing opens that the user may not open. Raises OSError."""
        groups = os.getgroups()
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    def become(self) -> None:
        """Become this user permanently. Raises OSError."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def check() -> str:
    """Raise SysenvError if sudo refuses this user; what it does not tell without a password, or ""."""
    return "asks for your password before it tells whether you may use it" if _wants_password(_program()) else ""


def _wants_password(program: str) -> bool:
    said = children.complaint(program, ["sudo", "-n", "true"], {"PATH": _PATH, "LC_ALL": "C"})
    import re

    if said and not re.search(_WOULD_ASK, said):
        raise SysenvError(f"sudo refuses: {said.splitlines()[0]}", _REFUSED)
    return bool(said)


def authorize() -> str:
    """The path of sudo, after it has asked for the password on the terminal. Raises SysenvError when it refuses.

    This process is about to become sudo, and then could not tell a refusal from a command that ends with 1.
    """
    program = _program()
    if _wants_password(program):
        pid = os.posix_spawn(program, ["sudo", "-v"], _environment())
        if children.reap(pid):
            raise SysenvError("sudo refused; see its message above", _REFUSED)
    return program


def _environment() -> dict[str, str]:
    """All that sudo gets of the caller's variables."""
    return {"PATH": _PATH, **{name: os.environ[name] for name in _VARIABLES if name in os.environ}}


def available() -> bool:
    """Whether sudo is installed and can work here."""
    return find_program("sudo") is not None and not processes.no_new_privileges()


def rerun(store: Path, request: Path, arguments: Sequence[str]) -> NoReturn:
    """Become sudo, which runs the tool again with these arguments and deletes `request`. Raises SysenvError.

    `request` is a directory to create in the caller's store, which must exist, for what is handed over.
    """
    sudo = authorize()
    umask = os.umask(_UMASK)
    try:
        request.mkdir(mode=0o700)
        variables = dict(os.environ) | {"SYSENV_NS_HOME": str(store)}
        write_json(request / _REQUEST, {"variables": variables, "umask": umask})
        # -I: no module may come from the current directory or the caller's variables. -B: root shall leave nothing in
        # what may be a user's directory.
        command = [sudo, "--", sys.executable, "-I", "-B", "-m", "sysenv_ns", "--request", str(request), *arguments]
        os.execve(sudo, command, _environment())
    except OSError as error:
        raise SysenvError(f"running sudo failed: {reason(error)}", _HINT) from error


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a module of the tool as root, through sudo unless this is root; with pipes. Raises SysenvError.

    sudo asks for a password on the terminal, not on the pipes.
    """
    import subprocess

    command = [sys.executable, "-I", "-B", "-m", module, *arguments]
    if os.geteuid() != 0:
        command = [_program(), "--", *command]
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd="/", env=_environment(), umask=_UMASK)
    except OSError as error:
        raise SysenvError(f"running {command[0]} failed: {reason(error)}", _HINT) from error


def asker() -> int | None:
    """The user who started this by sudo, as that says; None without sudo. Raises SysenvError."""
    uid = os.environ.get("SUDO_UID")
    if uid is None:
        return None
    if not uid.isdecimal():
        raise SysenvError(f"the variable SUDO_UID is {uid!r}, not a user id", "unset it: env -u SUDO_UID COMMAND")
    return int(uid)


def receive(request: Path) -> Caller:
    """In the tool that sudo runs: take over what the caller hands over. Raises SysenvError."""
    try:
        uid, gid = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
        if os.geteuid() != 0 or uid == 0:
            raise ValueError("it is only for use by sudo")
        groups = tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
        caller = Caller(uid, gid, groups, _UMASK, {})
        with caller.acting():
            data = documents.mapping(documents.parse_json(_take(request, uid)), "it")
        umask = documents.field(data, "umask", documents.integer) & 0o777
        variables = _checked(documents.field(data, "variables", documents.mapping))
    except (OSError, ValueError, KeyError) as error:
        raise SysenvError(f"{request} is not a request that sysenv-ns made ({error})", "leave out --request") from error
    os.environ.clear()
    import re

    os.environ.update({name: value for name, value in variables.items() if re.fullmatch(_TAKEN_OVER, name)})
    os.umask(_UMASK)
    return replace(caller, umask=umask, variables=variables)


def _take(request: Path, uid: int) -> bytes:
    """The content of a request, which is deleted; done as the caller, so that no link misleads root. Raises OSError."""
    with opened(os.open(request, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)) as directory:
        if os.fstat(directory).st_uid != uid:
            raise ValueError("it is not the caller's")
        content = reader.read(_REQUEST, _REQUEST_LIMIT, dir_fd=directory)
    removal.delete(request)
    return content


def _checked(variables: Mapping[str, object]) -> dict[str, str]:
    """Variables as execve(2) takes them. Raises ValueError."""
    found = {str(name): str(value) for name, value in variables.items()}
    for name, value in found.items():
        if not name or "=" in name or b"\0" in os.fsencode(name + value):
            raise ValueError("it has an invalid variable")
    return found


def _program() -> str:
    path = find_program("sudo")
    if path is None:
        raise SysenvError("sudo is not installed", _HINT)
    if processes.no_new_privileges():
        raise SysenvError("sudo cannot work here (no_new_privs is set)", "leave the sandbox or container")
    return path
