"""Runs the tool again as root by way of sudo, and tells that root on whose behalf; nothing else here speaks to sudo.

sudo gets an absolute path and a clean environment. What the command shall have of the caller (variables, umask) goes
through a file of the store, because sudo clears the one, changes the other and closes all descriptors.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sysenv_ns.errors import NeedsRoot, SysenvError, reason
from sysenv_ns.kernel import children, removal
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.store import Environment, Store, write_json

if TYPE_CHECKING:
    import subprocess

_HINT = "install sudo and let yourself use it, or use another driver"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLES = ("HOME", "LANG", "LC_ALL", "TERM", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "SUDO_ASKPASS")
_UMASK = 0o022  # of the tool itself: the caller shall be able to read what root writes into the store


@dataclass(frozen=True)
class Caller:
    """The user whom root acts for, by way of sudo."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int

    def become(self) -> None:
        """Be this user for good. Raises OSError."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def require(environment: Environment) -> None:
    """Raise NeedsRoot when only root can enter, end or remove an environment and the caller is not root."""
    if environment.driver == "root" and os.geteuid() != 0:
        raise NeedsRoot(f"{environment.name} has the driver root", "run sysenv-ns with sudo")


def check() -> None:
    """Raise SysenvError unless this user may use sudo, as far as that can be seen without a password."""
    said = children.complaint(_program(), ["sudo", "-n", "true"], {"PATH": _PATH, "LC_ALL": "C"})
    if said and "password" not in said:
        raise SysenvError(f"sudo refuses: {said.splitlines()[0]}", _HINT)


def available() -> bool:
    """Whether there is a sudo that can be asked."""
    return find_program("sudo") is not None and not _no_new_privileges()


def rerun(store: Store, arguments: Sequence[str]) -> NoReturn:
    """Become sudo, which runs the tool again with these arguments. Raises SysenvError."""
    sudo = _program()
    store.prepare()
    umask = os.umask(_UMASK)
    request = removal.trash_path(store.trash, "request")
    try:
        request.mkdir(mode=0o700)
        variables = dict(os.environ) | {"SYSENV_NS_HOME": str(store.path)}
        write_json(request / "request.json", {"variables": variables, "umask": umask})
        # -I: no module may come from the current directory or the caller's variables.
        command = [sudo, "--", sys.executable, "-I", "-m", "sysenv_ns", "--request", str(request), *arguments]
        kept = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        os.execve(sudo, command, {"PATH": _PATH, **kept})
    except OSError as error:
        raise SysenvError(f"running sudo failed: {reason(error)}", _HINT) from error


def start(module: str) -> subprocess.Popen[bytes]:
    """Start a module of the tool as root, by way of sudo unless this is root; with pipes. Raises SysenvError.

    sudo asks for a password on the terminal, not on the pipes.
    """
    import subprocess

    # -B: root shall leave nothing in what may be a user's directory.
    command = [sys.executable, "-I", "-B", "-m", module]
    if os.geteuid() != 0:
        command = [_program(), "--", *command]
    kept = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd="/", env={"PATH": _PATH, **kept}, umask=_UMASK)
    except OSError as error:
        raise SysenvError(f"running {command[0]} failed: {reason(error)}", _HINT) from error


def receive(request: Path) -> Caller:
    """In the tool that sudo runs: take over the caller's variables. Raises SysenvError."""
    try:
        uid, gid = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
        if os.geteuid() != 0 or request.lstat().st_uid != uid:
            raise ValueError("it is not the caller's")
        descriptor = os.open(request / "request.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as stream:
            data = json.load(stream)
        removal.remove_tree(request, None)
        variables = {str(name): str(value) for name, value in data["variables"].items()}
        umask = int(data["umask"])
        name = pwd.getpwuid(uid).pw_name
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SysenvError(f"{request} is no request of a user's sysenv-ns ({error})", "leave out --request") from error
    os.environ.clear()
    os.environ.update(variables)
    os.umask(_UMASK)
    return Caller(uid, gid, tuple(os.getgrouplist(name, gid)), umask)


def _no_new_privileges() -> bool:
    """Whether no program can make this process root (PR_SET_NO_NEW_PRIVS): in many containers and sandboxes."""
    return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()


def _program() -> str:
    path = find_program("sudo")
    if path is None:
        raise SysenvError("sudo is not installed", _HINT)
    if _no_new_privileges():
        raise SysenvError("sudo cannot make anybody root here (no_new_privs)", "leave the sandbox or container")
    return path
