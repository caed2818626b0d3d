"""Finds the sysenv.toml that somebody means: in the current directory, or the nearest one above, as git does it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest import plans
from sysenv_ns.manifest.document import Manifest
from sysenv_ns.store import check_name

NAME = "sysenv.toml"


def nearest(caller: int) -> Path | None:
    """The file in the current directory or above it, up to the home or the root of the file system; else None.

    Raises SysenvError for one that somebody else than this user or root has made: whoever can write to a directory
    above, such as /tmp, must not decide what is run.
    """
    directory = Path(os.getcwd())
    home, device = Path(os.path.expanduser("~")), os.stat(".").st_dev
    for place in (directory, *directory.parents):
        file = place / NAME
        with contextlib.suppress(PermissionError):  # where nobody lets us look there is none for us
            if place.stat().st_dev != device:
                return None
            if file.is_file():
                _check_owner(file, caller)
                return file
        if place == home:
            return None
    return None


def _check_owner(file: Path, caller: int) -> None:
    """The file, a symbolic link to it, and the directory that its scripts run in."""
    owners = {file.stat().st_uid, file.lstat().st_uid, file.parent.stat().st_uid}
    if not owners <= {caller, os.geteuid(), 0}:
        raise SysenvError(f"{file} belongs to somebody else", f"if you trust it: sysenv-ns sync NAME {file}")


def name_of(manifest: Manifest, file: Path) -> str:
    """The environment that it is about: as it says, else as its directory is called. Raises SysenvError."""
    name = manifest.name or plans.default_name(str(file.parent))
    if not name:
        raise SysenvError(f"no name can be made of {file.parent}", 'put one into the file: name = "proj"')
    return check_name(name)
