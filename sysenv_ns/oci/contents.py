"""PURE: which parts of a root go into an image, and what replaces the others. Reads no files.

An image leaves the machine. So of the host it holds what everybody on it may read, and of what makes it this one
machine, and of what the tool adds to live on it, nothing.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sysenv_ns import policy
from sysenv_ns.files import marks
from sysenv_ns.host import layout, services
from sysenv_ns.host.base_files import Addition
from sysenv_ns.kernel.mountinfo import is_below

# machine-id(5): an image has an empty file, so that the next start makes an id. The others whoever runs it mounts over.
_EMPTY = frozenset({"/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
# dbus-uuidgen(1) makes it where there is none, and fails when it is empty. Where it is a link, that is enough.
_ABSENT = frozenset({"/var/lib/dbus/machine-id"})
_OWN_DIRECTORY = services.PROGRAMS.rpartition("/")[0]
# Images have this file too: a package that is installed into one must not start a service.
_KEPT = "usr/sbin/policy-rc.d"
WHITEOUT = ".wh."  # in a layer, such a name deletes another one (image-spec, layer.md)

_ATTRIBUTES = frozenset({"security.capability", "system.posix_acl_access", "system.posix_acl_default"})


@dataclass(frozen=True)
class ImageRules:
    """The rules for one environment; paths are absolute."""

    hollow: frozenset[str]  # directories without what is in them
    additions: Mapping[str, bytes]  # what the tool has added, by path

    def is_absent(self, path: str, mode: int, of_host: bool) -> bool:
        """Whether nothing at a path, which is of this type, goes into an image."""
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode) or stat.S_ISFIFO(mode)):
            return True  # devices and sockets are of no use there
        if path in self.hollow and not stat.S_ISDIR(mode):
            return True
        if of_host and layout.left_out(path) and not stat.S_ISDIR(mode):
            return True  # where there is a base, it is not in that either
        return path == _OWN_DIRECTORY or (path in _ABSENT and stat.S_ISREG(mode))

    def is_empty(self, path: str, of_host: bool) -> bool:
        """Whether there is an empty file instead of what is at a path."""
        return path in _EMPTY or (of_host and is_below(path, policy.LOGS))


def of_environment(host: layout.Host, additions: Iterable[Addition]) -> ImageRules:
    """The rules for an environment that sees this host, and has these files in addition."""
    private = (f"/{name}" for name in policy.PRIVATE)
    added = {
        f"/{addition.path}": addition.content.encode("utf-8", "surrogateescape")
        for addition in additions
        if addition.path != _KEPT
    }
    return ImageRules(frozenset({*host.bound_paths, *private}), added)


def is_whiteout(name: str) -> bool:
    """Whether a name cannot be in a layer."""
    return name.startswith(WHITEOUT)


def is_open(mode: int) -> bool:
    """Whether everybody may read a file, or see what is in a directory."""
    needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return mode & needed == needed


def is_wanted(attribute: str) -> bool:
    """Whether an extended attribute means something elsewhere, and pax can name it."""
    own = attribute.startswith("user.") and not marks.is_of_overlay(attribute)
    return (own or attribute in _ATTRIBUTES) and "=" not in attribute
