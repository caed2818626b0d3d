"""Whom a unit's processes run as: User=, Group= and DynamicUser= of systemd.exec(5); becomes nobody."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
import zlib
from dataclasses import dataclass

from sysenv_ns.within.units import OrderError, Unit

_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}")  # useradd(8)


@dataclass(frozen=True)
class Identity:
    """Whom a unit's processes run as; `name` is empty for root."""

    uid: int = 0
    gid: int = 0
    name: str = ""
    groups: tuple[int, ...] = ()
    home: str = "/root"
    shell: str = "/bin/sh"


def of(unit: Unit) -> Identity:
    """Who a unit asks for; a dynamic user is made. Raises OrderError for a user or group that does not exist."""
    user, group = unit.text("Service", "User"), unit.text("Service", "Group")
    try:
        found = _user(user, unit.flag("Service", "DynamicUser"), unit.name)
        gid = _group(group) if group else found.gid
        groups = {_group(name) for name in unit.words("Service", "SupplementaryGroups")}
        if found.name:
            groups |= set(os.getgrouplist(found.name, gid))
    except KeyError as error:
        raise OrderError(f"{unit.name}: {str(error.args[0]).strip()}", "its package makes it at installation") from None
    return Identity(found.uid, gid, found.name, tuple(sorted(groups)), found.home, found.shell)


def _user(name: str, dynamic: bool, unit: str) -> Identity:
    if not name and not dynamic:
        return Identity()
    try:
        entry = _entry(name or _dynamic_name(unit))
    except KeyError:
        if not dynamic:
            raise
        _make(name or _dynamic_name(unit), unit)
        entry = _entry(name or _dynamic_name(unit))
    return Identity(entry.pw_uid, entry.pw_gid, entry.pw_name, (), entry.pw_dir, entry.pw_shell)


def _entry(name: str) -> pwd.struct_passwd:
    return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)


def _dynamic_name(unit: str) -> str:
    """What systemd calls the user of a unit that gives it no name. Instances have one user: it stays, unlike theirs."""
    name = unit.rpartition(".")[0].partition("@")[0]
    return name if _NAME.fullmatch(name) else f"_du{zlib.crc32(name.encode()):08x}"


def _make(name: str, unit: str) -> None:
    """Make a system user that stays. systemd's is known to its own name service alone, and goes with the unit."""
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/"]
    command += ["--shell", "/usr/sbin/nologin", "--comment", f"Dynamic user of {unit}", "--", name]
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise OrderError(
            f"{unit}: useradd, which would make its user {name}, is not installed", "install passwd"
        ) from None
    if result.returncode:
        raise OrderError(f"{unit}: its user {name} cannot be created: {result.stderr.strip()}")


def _group(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
