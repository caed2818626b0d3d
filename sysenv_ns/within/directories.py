"""RuntimeDirectory= and its like (systemd.exec(5)): made for a unit's user, with what is in them."""

from __future__ import annotations

import contextlib
import os
import stat

from sysenv_ns.within.identities import Identity
from sysenv_ns.within.units import Unit

_DIRECTORIES = {
    "Runtime": "/run",
    "State": "/var/lib",
    "Cache": "/var/cache",
    "Logs": "/var/log",
    "Configuration": "/etc",
}


def make(unit: Unit, who: Identity) -> dict[str, str]:
    """Make RuntimeDirectory= and its like; the variables that tell of them. Raises OSError."""
    told: dict[str, str] = {}
    for kind, parent in _DIRECTORIES.items():
        names = [name.partition(":")[0] for name in unit.words("Service", f"{kind}Directory")]
        if not names:
            continue
        mode = int(unit.text("Service", f"{kind}DirectoryMode", "0755"), 8)
        paths = [f"{parent}/{name}" for name in names]
        for path in paths:
            os.makedirs(path, mode=0o755, exist_ok=True)
            directory = opened(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fchmod(directory, mode)
                if kind != "Configuration":
                    _give(directory, who)
            finally:
                os.close(directory)
        told[f"{kind.upper()}_DIRECTORY"] = ":".join(paths)
    return told


def opened(path: str, flags: int) -> int:
    """A file or directory; links to it are root's alone: a unit's user may own what is above. Raises OSError."""
    links = os.O_NOFOLLOW
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) and status.st_uid == 0:
            links = 0
    return os.open(path, flags | os.O_CLOEXEC | links, 0o644)


def _give(top: int, who: Identity) -> None:
    """Give a directory to its user, with all that is in it where it was somebody else's, as systemd does.

    Whose it was can rename what is in it meanwhile, so that only names in open directories are used.
    """
    found = os.fstat(top)
    if (found.st_uid, found.st_gid) == (who.uid, who.gid):
        return
    for _, inner, files, directory in os.fwalk(".", dir_fd=top):
        for name in (*inner, *files):
            os.chown(name, who.uid, who.gid, dir_fd=directory, follow_symlinks=False)
    os.chown(top, who.uid, who.gid)


def temporary(unit: Unit) -> list[str]:
    """Those that go when the unit has ended."""
    if unit.text("Service", "RuntimeDirectoryPreserve", "no").lower() not in ("no", "false", "0", "off"):
        return []
    return [f"/run/{name.partition(':')[0]}" for name in unit.words("Service", "RuntimeDirectory")]
