"""What a user can do about what the kernel, its policy or a disk refused; looks at settings, changes none.

A setting explains a failure; it never predicts one.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

USER_NAMESPACE = "creating a user namespace"
ID_MAP = "writing the id map"
MOUNT_NAMESPACE = "creating a mount namespace"
PROPAGATION = "making the mounts private"
OVERLAY = "mounting an overlay"

_NEEDED = {
    "stub": "Linux 6.16 or later",
    "reflink": "Linux 5.11 or later",
    "copy": "Linux 5.11 or later",
}
_NO_UPPER = {
    *("9p", "ceph", "cifs", "exfat", "fuse", "fuseblk", "nfs", "nfs4", "ntfs3", "overlay", "ramfs", "smb3", "vfat"),
    "virtiofs",
}


def remedy(stage: str, error: OSError, store: Path | None = None, driver: str = "") -> str:
    """One remedy for a failed stage, as text that the user can act on."""
    number = error.errno
    if _is_set("kernel/apparmor_restrict_unprivileged_userns", "1") and number in (errno.EPERM, errno.EACCES):
        return _apparmor()
    if stage in (USER_NAMESPACE, MOUNT_NAMESPACE):
        return _namespace(number)
    if stage == OVERLAY and store is not None:
        return _overlay(error, store, driver)
    return "run `sysenv-ns doctor` and report what it prints"


def storage(error: OSError, path: Path) -> str:
    """What to do when files at `path` cannot be written."""
    elsewhere = "set SYSENV_NS_HOME to a directory elsewhere"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"make room on the file system of {path}, or {elsewhere}"
    if error.errno == errno.EROFS:
        return f"make the file system of {path} writable, or {elsewhere}"
    if error.errno == errno.EOPNOTSUPP:
        return f"the file system of {path} has no user attributes: {elsewhere}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"make {path} yours, or {elsewhere}"
    return f"look at the file system of {path}, or {elsewhere}"


def _namespace(number: int | None) -> str:
    if number == errno.ENOSPC:
        return "raise the limit: sudo sysctl -w user.max_user_namespaces=15000 user.max_mnt_namespaces=15000"
    if number == errno.EINVAL:
        return "on WSL 1 there are no namespaces: use WSL 2"
    if _is_set("kernel/unprivileged_userns_clone", "0"):
        return "allow it: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _seccomp_filtered():
        return "a seccomp filter forbids it; a container needs --security-opt seccomp=unconfined"
    return "it is forbidden in a chroot: leave that; else ask who set this system's policy to allow user namespaces"


def fuse_device(error: OSError) -> str:
    """What to do about a /dev/fuse that cannot be opened."""
    if error.errno == errno.ENOENT:
        return "load the module: sudo modprobe fuse; a container needs --device /dev/fuse"
    return "let users open it, as most distributions do: sudo chmod 666 /dev/fuse"


def _overlay(error: OSError, store: Path, driver: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return storage(error, store)
    if is_unfit(store):
        return unfit(store)
    if driver == "root":
        return "root of a container or user namespace may lack what it needs: use another driver (see doctor)"
    if error.errno in (errno.EINVAL, errno.EPERM, errno.ENODEV):
        return f"the driver {driver} needs {_NEEDED[driver]} with overlayfs; `sysenv-ns doctor` shows what works here"
    return f"look at the kernel's log (dmesg) and at the file system of {store}"


def is_unfit(store: Path) -> bool:
    """Whether the store's file system explains that an overlay cannot be mounted there."""
    return filesystem(store) in _NO_UPPER


def unfit(store: Path) -> str:
    """What to do about such a store."""
    return (
        f"{store} lies on {filesystem(store)}, which cannot hold an environment: "
        "set SYSENV_NS_HOME to a directory on ext4, xfs, btrfs or tmpfs"
    )


def filesystem(path: Path) -> str:
    """The type of the file system that holds `path`, as the mount table names it; "" when unknown."""
    from sysenv_ns.kernel import mountinfo

    mount = mountinfo.containing(os.path.realpath(path), mountinfo.visible(mountinfo.read()))
    return mount.fstype.partition(".")[0] if mount else ""


def _apparmor() -> str:
    executable = os.path.realpath(sys.executable)
    profile = f"abi <abi/4.0>, profile sysenv-ns {executable} flags=(unconfined) {{ userns, }}"
    return (
        f"allow it for this program: echo '{profile}' | sudo tee /etc/apparmor.d/sysenv-ns "
        "&& sudo apparmor_parser -r /etc/apparmor.d/sysenv-ns"
    )


def _is_set(name: str, value: str) -> bool:
    try:
        return Path("/proc/sys", name).read_text().strip() == value
    except OSError:
        return False


def _seccomp_filtered() -> bool:
    try:
        return "Seccomp:\t2" in Path("/proc/self/status").read_text()
    except OSError:
        return False
