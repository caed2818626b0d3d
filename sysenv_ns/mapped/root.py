"""Makes and removes the mounts and the launcher of a user, as real root; also the process that sudo starts for that.

It is given a verb. Only sudo, or root, can tell it for which user; what it mounts, and with which ids, it finds out
itself (/proc/self/mountinfo, policy.MAPPED, /etc/subuid). All names below the user's directory, which that user can
change at any moment, are used by descriptors, and no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import sys
from collections.abc import Iterator

from sysenv_ns import policy, sudo
from sysenv_ns.basics import opened
from sysenv_ns.errors import SysenvError, located, reason
from sysenv_ns.files.locks import file_lock
from sysenv_ns.host import survey
from sysenv_ns.kernel import children, idmap, mountinfo, namespace, outcome, syscalls
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.mapped import apparmor, boot, trees
from sysenv_ns.mapped.trees import Part
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTRIBUTES = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_STDOUT = 1
_UMASK = 0o022  # what root makes here is for others to enter, whatever umask this root has
_LOCK = Path(f"{trees.PLACE}/.lock")  # not the directory itself, which users can open, and lock for ever

Shown = dict[str, str]  # where directories of the host are shown, by their paths on it


def main() -> int:
    """Carry out the verb; the exit status says whether it was done."""
    told, succeeded = outcome.told(lambda: do(sys.argv[1], _caller(sys.argv[2:])))
    children.write_all(_STDOUT, told)
    return 0 if succeeded else 1


def _caller(arguments: list[str]) -> int:
    """The user for whom it acts: the one that sudo names; without sudo, root names one."""
    if os.geteuid() != 0:
        raise SysenvError("only root can do this", "run: sysenv-ns host --help")
    uid = sudo.asker()
    return int(arguments[0]) if uid is None else uid


@dataclass(frozen=True)
class Released:
    """What was removed: mount points, whether they would have been mounted at the next boot, and the launcher."""

    points: tuple[str, ...]
    disabled: bool
    launcher: str | None


@dataclass(frozen=True)
class Launcher:
    """What starts the tool where AppArmor forbids namespaces to others."""

    path: str


def do(verb: str, uid: int) -> Shown | Released | Launcher:
    """Carry out a verb for a user. Raises SysenvError."""
    umask = os.umask(_UMASK)
    try:
        if verb == "prepare":
            return prepare(uid)
        if verb == "prepare-at-boot":
            boot.require()
            shown = prepare(uid)  # what fails now would fail at each boot
            boot.enable(uid)
            return shown
        if verb == "launcher":
            return Launcher(apparmor.install(uid, _group(uid)))
        if verb == "release":
            return Released(tuple(release(uid)), boot.disable(uid), apparmor.remove(uid))
    except OSError as error:
        raise SysenvError(located(error)) from error
    finally:
        os.umask(umask)
    raise SysenvError(f"unknown verb {verb!r}")


def prepare(uid: int) -> Shown:
    """Make the mounts, replacing old ones; returns the mount points by the paths on the host.

    A directory that is, even in part, on a file system that cannot be idmapped is left out.
    Raises SysenvError, OSError.
    """
    gid = _group(uid)
    id_map = idmap.granted(uid, gid)
    _make(trees.PLACE, 0o755)
    with _alone():
        return _prepare(uid, gid, id_map)


def _prepare(uid: int, gid: int, id_map: IdMap) -> Shown:
    _release(uid)
    shown: Shown = {}
    unfit: list[str] = []
    with _user_namespace(id_map) as user_namespace, _own_directory(uid, gid) as directory:
        for tree, parts in trees.parts(survey.host(None, run=False)).items():
            try:
                mounts = _clone(parts, user_namespace)
            except OSError as error:
                unfit.append(f"{tree} ({located(error)})")
                continue
            for part, mount in zip(parts, mounts, strict=True):
                _attach(mount, directory, part.name, trees.place_of(uid))
                shown[part.path] = f"{trees.place_of(uid)}/{part.name}"
    if policy.MAPPED[0] not in shown:
        _release(uid)
        hint = "use another driver (see `sysenv-ns doctor`): this one needs Linux 5.19, and ext4, xfs or btrfs"
        raise SysenvError(f"no idmapped mount of {policy.MAPPED[0]} can be made: {'; '.join(unfit)}", hint)
    return shown


def release(uid: int) -> list[str]:
    """Remove a user's mounts; running environments keep theirs until they are stopped. Raises SysenvError, OSError."""
    with contextlib.suppress(FileNotFoundError), _alone():
        return _release(uid)
    return []


def _release(uid: int) -> list[str]:
    place = trees.place_of(uid)
    released = []
    _uncover(place)
    with contextlib.suppress(FileNotFoundError), _opened(place) as directory:
        # What is mounted on each other in one place comes off one by one.
        for mount in mountinfo.read():
            parent, _, name = mount.point.rpartition("/")
            if parent == place:
                flags = syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW
                syscalls.umount(f"/proc/self/fd/{directory}/{name}", flags)
                released.append(mount.point)
        for name in os.listdir(directory):  # also of what somebody else has unmounted
            with contextlib.suppress(OSError):  # by now it is the user's own affair what is there
                os.rmdir(name, dir_fd=directory)
        with contextlib.suppress(OSError):
            os.rmdir(place)
    return released


def _uncover(place: str) -> None:
    """Take away what the user has mounted on the own directory (fusermount3(1)), which root could not enter then."""
    for mount in mountinfo.read():
        if mount.point == place:  # a name that only root can change
            syscalls.umount(place, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)


def _group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise SysenvError(f"there is no user with the number {uid}", "give the name of a user") from None


@contextlib.contextmanager
def _user_namespace(id_map: IdMap) -> Iterator[int]:
    """A user namespace with this map, owned by root, with nobody in it."""
    with opened(namespace.make(lambda pid: idmap.install_as_root(pid, id_map))) as descriptor:
        yield descriptor


@contextlib.contextmanager
def _own_directory(uid: int, gid: int) -> Iterator[int]:
    """The user's directory, created if missing: it belongs to the user, and is closed to others."""
    _make(trees.place_of(uid), 0o700)
    with _opened(trees.place_of(uid)) as directory:
        if os.fstat(directory).st_uid not in (0, uid):
            raise SysenvError(f"{trees.place_of(uid)} belongs to another user", "find out which program created it")
        os.fchown(directory, uid, gid)
        os.fchmod(directory, 0o700)
        yield directory


def _make(path: str, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Nobody else prepares or releases meanwhile. Raises OSError, SysenvError."""
    with _place(), file_lock(_LOCK):
        yield


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """A directory of trees.PLACE. Raises OSError, SysenvError."""
    with _place() as place, opened(os.open(os.path.basename(path), _DIRECTORY, dir_fd=place)) as directory:
        yield directory


@contextlib.contextmanager
def _place() -> Iterator[int]:
    """trees.PLACE, which only root can change. Raises OSError, SysenvError."""
    with opened(os.open(trees.PLACE, _DIRECTORY)) as place:
        status = os.fstat(place)
        if status.st_uid != 0 or status.st_mode & 0o022:
            raise SysenvError(f"users other than root can change {trees.PLACE}", f"delete it: sudo rm -r {trees.PLACE}")
        yield place


def _clone(parts: tuple[Part, ...], user_namespace: int) -> list[int]:
    """Detached mounts of these directories. Raises OSError; then none is left."""
    mounts: list[int] = []
    try:
        for part in parts:
            with opened(_source(part)) as source:
                mounts.append(syscalls.clone_mount(source, part.path))
            syscalls.mount_setattr_idmapped(mounts[-1], part.path, user_namespace, _ATTRIBUTES)
    except OSError:
        for mount in mounts:
            os.close(mount)
        raise
    return mounts


def _source(part: Part) -> int:
    """The directory itself, not a link: whoever may write above a disk below /opt could plant a link there."""
    directory = syscalls.openat2(syscalls.AT_FDCWD, part.path, os.O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_NO_SYMLINKS)
    if mountinfo.holder(directory) != part.mount.mount_id:
        os.close(directory)
        raise SysenvError(f"{part.path} is just being replaced", "find out which program does that, and try again")
    return directory


def _attach(mount: int, directory: int, name: str, place: str) -> None:
    """Attach a detached mount in the user's directory. Raises OSError, SysenvError."""
    with opened(mount):
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=directory)
        with opened(os.open(name, _PATH, dir_fd=directory)) as point:
            syscalls.move_mount(mount, point, f"{place}/{name}")
            # Below a shared mount it has become one.
            syscalls.mount_setattr(mount, f"{place}/{name}", 0, syscalls.MS_PRIVATE)
        # The user can rename what lies in the own directory, until there is a mount on it.
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            problem = reason(error)
        else:
            problem = "" if os.path.samestat(status, os.fstat(mount)) and stat.S_ISDIR(status.st_mode) else "replaced"
        if problem:
            syscalls.umount(f"/proc/self/fd/{mount}", syscalls.MNT_DETACH)
            raise SysenvError(f"{place}/{name} was changed while it was mounted ({problem})", "try again")


if __name__ == "__main__":
    sys.exit(main())
