"""What a user can do if the kernel, a policy or a disk refuses something; reads settings, changes none.

A setting explains a failure; it never predicts one.
"""

from __future__ import annotations

import errno
import os

from sysenv_ns.paths import Path

USER_NAMESPACE = "creating a user namespace"
ID_MAP = "writing the id map"
MOUNT_NAMESPACE = "creating a mount namespace"
PROPAGATION = "making the mounts private"
OVERLAY = "mounting an overlay"

LOW_PORTS = "let every user have them: sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80"

_LIMITS = {
    errno.EFBIG: "let this shell write larger files: ulimit -f unlimited",
    errno.EMFILE: "let this shell open more files: ulimit -n 1024",
    errno.ENFILE: "let this system open more files: sudo sysctl -w fs.file-max=1000000",
    errno.ENOMEM: "free some memory, or let this shell use more of it: ulimit -v unlimited",
    errno.EAGAIN: "end some of your processes, or let this shell have more of them: ulimit -u",
}
_ELSEWHERE = "set SYSENV_NS_HOME to a directory elsewhere"
_STORAGE = {
    errno.ENOSPC: "free some space on the file system of {path}",
    errno.EDQUOT: "free some space on the file system of {path}",
    errno.EROFS: "make the file system of {path} writable",
    errno.EIO: "look at the kernel's log (dmesg) and at the disk of {path}",
    errno.EOPNOTSUPP: "the file system of {path} has no user attributes",
    errno.EACCES: "make {path} yours",
    errno.EPERM: "make {path} yours",
}
_NO_UPPER = {
    *("9p", "ceph", "cifs", "exfat", "fuse", "fuseblk", "nfs", "nfs4", "ntfs3", "overlay", "ramfs", "smb3", "vfat"),
    "virtiofs",
}


def remedy(stage: str, error: OSError, store: Path | None = None, of_driver: str = "") -> str:
    """One remedy for a failed stage, as text that the user can act on; `of_driver` is what its driver says."""
    number = error.errno
    if _is_set("kernel/apparmor_restrict_unprivileged_userns", "1") and number in (errno.EPERM, errno.EACCES):
        from sysenv_ns import launcher  # before anything is entered

        return launcher.remedy()
    if stage in (USER_NAMESPACE, MOUNT_NAMESPACE):
        return _namespace(number)
    if stage == OVERLAY and store is not None:
        return _overlay(error, store, of_driver)
    return "run `sysenv-ns doctor` and report what it prints"


def exhausted(error: OSError) -> str:
    """What to do about a limit of this session or this machine that has been reached; "" for another error."""
    return _LIMITS.get(error.errno or 0, "")


def storage(error: OSError, path: Path) -> str:
    """What to do when files at `path` cannot be written."""
    if limit := exhausted(error):
        return limit
    what = _STORAGE.get(error.errno or 0, "look at the file system of {path}")
    return f"{what.format(path=path)}{':' if error.errno == errno.EOPNOTSUPP else ', or'} {_ELSEWHERE}"


def _namespace(number: int | None) -> str:
    if number == errno.ENOSPC:
        return "raise the limit: sudo sysctl -w user.max_user_namespaces=15000 user.max_mnt_namespaces=15000"
    if number == errno.EINVAL:
        return "on WSL 1 there are no namespaces: use WSL 2"
    if _is_set("kernel/unprivileged_userns_clone", "0"):
        return "allow it: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _seccomp_filtered():
        return "a seccomp filter forbids it; a container needs --security-opt seccomp=unconfined"
    return "a chroot forbids it: leave it; otherwise ask this system's administrator to allow user namespaces"


def fuse_device(error: OSError) -> str:
    """What to do about a /dev/fuse that cannot be opened."""
    if error.errno == errno.ENOENT:
        return "load the module: sudo modprobe fuse; a container needs --device /dev/fuse"
    return "let users open it, as most distributions do: sudo chmod 666 /dev/fuse"


def _overlay(error: OSError, store: Path, of_driver: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return storage(error, store)
    if is_unfit(store):
        return unfit(store)
    return of_driver or f"look at the kernel's log (dmesg) and at the file system of {store}"


def is_unfit(store: Path) -> bool:
    """Whether the store's file system explains that an overlay cannot be mounted there."""
    return filesystem(store) in _NO_UPPER


def unfit(store: Path) -> str:
    """What to do about such a store."""
    return (
        f"{store} lies on {filesystem(store)}, which cannot hold an environment: "
        "set SYSENV_NS_HOME to a directory on ext4, xfs, btrfs or tmpfs"
    )


def first_open_port() -> int:
    """The lowest port that a process without privileges may listen on (Linux 4.11; before, 1024)."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def filesystem(path: Path) -> str:
    """The type of the file system that holds `path`, as the mount table names it; "" when unknown."""
    from sysenv_ns.kernel import mountinfo

    mount = mountinfo.containing(os.path.realpath(path), mountinfo.visible(mountinfo.read()))
    return mount.fstype.partition(".")[0] if mount else ""


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
