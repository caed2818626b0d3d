"""Finds the sysenv.toml to use: in the current directory or the nearest one above, as git does."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sysenv_ns.environment.store import check_name
from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest import plans
from sysenv_ns.manifest.document import Manifest

NAME = "sysenv.toml"


def nearest(caller: int) -> Path | None:
    """The file in the current directory or above it, up to the home or the root of the file system; else None.

    Raises SysenvError for one that neither this user nor root has made: whoever can write to a directory
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
    """The file, a symbolic link to it, and the directory in which its scripts run."""
    owners = {file.stat().st_uid, file.lstat().st_uid, file.parent.stat().st_uid}
    if not owners <= {caller, os.geteuid(), 0}:
        raise SysenvError(f"{file} belongs to another user", f"if you trust it: sysenv-ns sync NAME {file}")


def name_of(manifest: Manifest, file: Path) -> str:
    """The name of its environment: from the file, else from its directory. Raises SysenvError."""
    name = manifest.name or plans.default_name(str(file.parent))
    if not name:
        raise SysenvError(
            f"the name of {file.parent} is not a valid name for an environment", 'set one in the file: name = "proj"'
        )
    return check_name(name)
