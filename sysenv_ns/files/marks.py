"""How an overlay marks what is hidden in the layers below: whiteouts and opaque directories."""

from __future__ import annotations

import os
import stat

from sysenv_ns import policy
from sysenv_ns.records import dataclass

OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque")
WHITEOUT_PREFIX = ".wh."
_NOTES = tuple(f"{space}.{kind}." for space in ("user", "trusted") for kind in ("overlay", "fuseoverlayfs"))
_NESTED = ("user.overlay.overlay.", "trusted.overlay.overlay.")  # of a program inside: escaped (overlayfs, nesting)


@dataclass(frozen=True)
class Marks:
    """The marks of one driver.

    fuse-overlayfs also marks by file names, if it cannot create a device or set an attribute. For the kernel's
    overlays these are ordinary names (container images unpacked inside have such files).
    """

    opaque: str  # the attribute
    by_name: bool = False

    def hidden_name(self, entry: os.DirEntry[str]) -> str | None:
        """The name that a whiteout hides; None for anything else."""
        if self.by_name and entry.name.startswith(WHITEOUT_PREFIX):
            return entry.name[len(WHITEOUT_PREFIX) :]
        if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False) or entry.is_symlink():
            return None  # as the directory says, without a call
        status = entry.stat(follow_symlinks=False)
        return entry.name if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 else None

    def is_mark(self, name: str) -> bool:
        """Whether a file of this name only marks its directory as opaque."""
        return self.by_name and name in (policy.FUSE_OPAQUE, ".wh..opq")  # the second one a leftover of the first

    def is_opaque(self, path: str) -> bool:
        """Whether a directory hides the layers below it."""
        if self.by_name and os.path.lexists(f"{path}/{policy.FUSE_OPAQUE}"):
            return True
        names = os.listxattr(path, follow_symlinks=False)
        wanted = OPAQUE if self.by_name else (self.opaque,)
        return any(os.getxattr(path, name, follow_symlinks=False) in (b"y", b"") for name in wanted if name in names)


OF_USERS = Marks("user.overlay.opaque")  # an overlay mounted with userxattr
OF_ROOT = Marks("trusted.overlay.opaque")
OF_FUSE = Marks("user.fuseoverlayfs.opaque", by_name=True)
_OF_DRIVERS = {"root": OF_ROOT, "fuse": OF_FUSE}


def of(driver: str) -> Marks:
    """The marks of the driver of that name; here, as changes are merged where no driver is known."""
    return _OF_DRIVERS.get(driver, OF_USERS)


def is_of_overlay(attribute: str) -> bool:
    """Whether an attribute belongs to an overlay."""
    return attribute.startswith(_NOTES) and not attribute.startswith(_NESTED)
