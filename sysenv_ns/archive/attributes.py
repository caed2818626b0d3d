"""Which extended attributes of a file belong in an archive, whatever driver it comes from or goes to."""

from __future__ import annotations

import re

CAPABILITY = b"security.capability"
LISTS = (b"system.posix_acl_access", b"system.posix_acl_default")
# An overlay's notes to itself, but for those that a program inside has made: they are escaped (overlayfs, nesting).
_NOTE = re.compile(rb"(user|trusted)\.(overlay\.(?!overlay\.)|fuseoverlayfs\.)", re.DOTALL)
# By which a file of an overlay has the data or the place of another one.
_UNRESOLVED = re.compile(rb"(user|trusted)\.overlay\.(metacopy|redirect)")


def is_carried(name: bytes) -> bool:
    """Whether an attribute goes with its file; labels of a security system are given anew."""
    if name in (CAPABILITY, *LISTS):
        return True
    return name.startswith((b"user.", b"trusted.")) and not _NOTE.match(name)


def is_unresolved(name: bytes) -> bool:
    """Whether a file with that attribute is not whole by itself."""
    return _UNRESOLVED.fullmatch(name) is not None
