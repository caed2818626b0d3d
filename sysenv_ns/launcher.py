"""The launcher: starts the tool so that AppArmor lets it make user namespaces, where it forbids them to other programs
(Ubuntu 23.10 and later). Knows what it is, and how a plain start goes on as it; mapped/apparmor.py makes it.

/usr/local/lib/sysenv-ns/UID/sysenv-ns    a script of root's; nobody but this user can enter UID/

AppArmor finds a profile by the path of the file that execve(2) is given, for a script that of the script, and what that
executes keeps the profile (security/apparmor/domain.c, apparmor_bprm_creds_for_exec: since Linux 5.8 it is called once
for each execve, before the interpreter is looked for).

Where AppArmor restricts namespaces, this is imported before all else at each start: it imports nothing itself.
"""

from __future__ import annotations

import os
import stat
import sys

PLACE = "/usr/local/lib/sysenv-ns"
NAME = "sysenv-ns"
PROFILE = "/etc/apparmor.d/sysenv-ns-launcher"
STARTED = "sysenv-ns-launcher"  # the option -X of a Python that the launcher has started
QUESTION = """\
On this system AppArmor allows user namespaces only to programs that root has chosen. sudo is used to make a launcher
for sysenv-ns in {place} that is allowed to create them, so that you can have environments without
root. Other programs of yours can also get namespaces through it. `sysenv-ns host release` undoes it. Continue?"""
_SETTING = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_LABEL = "/proc/self/attr/current"
_UNCONFINED = "unconfined"
_WRITABLE = 0o022
_LIMIT = 1 << 16  # bytes
_SCRIPT = """\
#!/bin/sh
# Made by sysenv-ns host prepare. AppArmor lets this file make user namespaces: {profile}.
exec '{python}' -I -X {started} -m sysenv_ns "$@"
"""


def path_of(uid: int) -> str:
    """A user's launcher."""
    return f"{PLACE}/{uid}/{NAME}"


def script() -> bytes:
    """A launcher's content: it starts this installation of the tool."""
    python = _python().replace("'", "'\"'\"'")
    return os.fsencode(_SCRIPT.format(profile=PROFILE, python=python, started=STARTED))


def _python() -> str:
    """This interpreter by one path, by whichever it was started."""
    if sys.prefix == sys.base_prefix:
        return os.path.realpath(sys.executable)
    return f"{os.path.realpath(sys.prefix)}/bin/python3"  # a virtual environment's own: it leads to the system's


def is_needed() -> bool:
    """Whether AppArmor restricts the namespaces of users' programs, now."""
    return _content(_SETTING).strip() == b"1"


def is_installed(uid: int) -> bool:
    """Whether there is a launcher for a user that starts this installation. Only that user and root can tell."""
    path = path_of(uid)
    return _content(path) == script() and all(map(_is_of_root, (path, os.path.dirname(path), PLACE)))


def is_missing() -> bool:
    """Whether this process needs a launcher to have namespaces, and there is none."""
    return _is_restricted() and not is_installed(os.geteuid())


def remedy() -> str:
    """What to do about a namespace that AppArmor has refused to this process."""
    label = _label()
    if label == _UNCONFINED and STARTED in sys._xoptions:
        return f"let AppArmor load the launcher's profile: sudo apparmor_parser -r {PROFILE}"
    if label != _UNCONFINED and is_installed(os.geteuid()):
        return f"start it from a program that AppArmor has no profile for: this one has {label}"
    return "have a launcher made that AppArmor allows (needs sudo, once): sysenv-ns host prepare --launcher"


def go_on(arguments: list[str]) -> None:
    """Be the launcher from here on, where AppArmor would forbid namespaces to this process and there is a launcher."""
    uid = os.geteuid()
    if not _is_restricted() or not is_installed(uid):
        return
    try:
        os.execv(path_of(uid), [path_of(uid), *arguments])
    except OSError:
        return  # then the first namespace fails, and says what to do


def _is_restricted() -> bool:
    """Whether AppArmor forbids namespaces to this process; not where something has given it a profile of its own."""
    if os.geteuid() == 0 or STARTED in sys._xoptions or not is_needed():
        return False
    return _label() == _UNCONFINED


def _label() -> str:
    """What AppArmor calls this process; "unconfined" without a profile."""
    return _content(_LABEL).strip(b"\0\n").decode(errors="replace")


def _is_of_root(path: str) -> bool:
    status = os.lstat(path)
    return status.st_uid == 0 and not status.st_mode & _WRITABLE


def _content(path: str) -> bytes:
    """Of a file of the kernel's or of root's; nothing where it is neither there nor readable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _LIMIT) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)
