"""Writes and removes a user's launcher (launcher.py), and the profile by which AppArmor lets it make user namespaces.

Real root does it. One profile is for the launchers of all users; it goes with the last one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sysenv_ns import launcher
from sysenv_ns.errors import SysenvError
from sysenv_ns.files.replacement import replace_hidden
from sysenv_ns.kernel import children, ownership
from sysenv_ns.kernel.idmap import find_program

_PROFILE = """\
# Made by sysenv-ns host prepare; sysenv-ns host release removes it.
abi <abi/4.0>,

profile sysenv-ns-launcher {launchers}/[0-9]*/{launcher} flags=(unconfined) {{
  userns,
}}
"""


def profile() -> bytes:
    """The content of the profile."""
    return _PROFILE.format(launchers=launcher.PLACE, launcher=launcher.NAME).encode()


def install(uid: int, gid: int) -> str:
    """Write the launcher of a user for this installation, and load the profile; the launcher's path.

    Raises SysenvError, OSError.
    """
    if not launcher.is_needed():
        hint = "run `sysenv-ns doctor`, which shows what works"
        raise SysenvError("AppArmor does not restrict user namespaces on this system: no launcher is needed", hint)
    path, place = Path(launcher.path_of(uid)), Path(launcher.PLACE)
    place.mkdir(mode=0o755, exist_ok=True)
    if intruded := ownership.intruded(str(place)):
        raise SysenvError(f"users other than root can change {intruded}", f"let root alone write there: {intruded}")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    os.chown(path.parent, 0, gid)
    path.parent.chmod(0o750)
    replace_hidden(path, launcher.script(), 0o755)
    replace_hidden(Path(launcher.PROFILE), profile(), 0o644)
    _load("--replace")
    return str(path)


def remove(uid: int) -> str | None:
    """Remove a user's launcher, and with the last one the profile; the path, None where there was none.

    Programs that were started by it lose the right to make further user namespaces with the profile. Raises
    SysenvError, OSError.
    """
    path, place = Path(launcher.path_of(uid)), Path(launcher.PLACE)
    there = path.exists()
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or not empty
        path.parent.rmdir()
        place.rmdir()
    if os.path.exists(launcher.PROFILE) and not place.exists():
        try:
            _load("--remove")
        finally:
            os.unlink(launcher.PROFILE)  # so that it is gone with the next start of the system at the latest
    return str(path) if there else None


def _load(option: str) -> None:
    """Let the kernel have the profile, or take it from it. Raises SysenvError."""
    program = find_program("apparmor_parser")
    if program is None:
        raise SysenvError("apparmor_parser is not installed", "install the package apparmor")
    command = ["apparmor_parser", option, "--skip-cache", launcher.PROFILE]
    if complaint := children.complaint(program, command, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}):
        said = complaint.splitlines()[-1]  # it warns first
        raise SysenvError(f"apparmor_parser refuses the profile: {said}", "look at the kernel's log (dmesg)")
