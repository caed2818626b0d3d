"""Which extended attributes of a file belong in an archive, whatever driver it comes from or goes to."""

from __future__ import annotations

import os
import re

from sysenv_ns.files import marks

CAPABILITY = b"security.capability"
LISTS = (b"system.posix_acl_access", b"system.posix_acl_default")
# By which a file of an overlay has the data or the place of another one.
_UNRESOLVED = re.compile(rb"(user|trusted)\.overlay\.(metacopy|redirect)")


def is_carried(name: bytes) -> bool:
    """Whether an attribute is archived; labels of a security system are not, as they are set anew."""
    if name in (CAPABILITY, *LISTS):
        return True
    return name.startswith((b"user.", b"trusted.")) and not marks.is_of_overlay(os.fsdecode(name))


def is_unresolved(name: bytes) -> bool:
    """Whether a file with that attribute depends on another file."""
    return _UNRESOLVED.fullmatch(name) is not None
