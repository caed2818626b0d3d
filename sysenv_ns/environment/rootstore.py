"""Where root keeps the environments that it creates for users through sudo: nobody else can write there.

/var/lib/sysenv-ns/users/UID/KEY/    as store.py describes it; KEY stands for the user's own store

The user can read there and nobody else can: a setuid-root file of an upper is, seen from the host, just that. Whoever
administrates the machine may let /var/lib/sysenv-ns/users be a link, or mount a disk there.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened, suppress
from sysenv_ns.environment import transaction
from sysenv_ns.environment.directory import ENVIRONMENTS, LAYERS, ORIGINS_OF_ROOT, store_location
from sysenv_ns.environment.store import Behalf, Store
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import ownership, remedies
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from sysenv_ns.sudo import Caller

# Not what is above it: an environment has a file of its own there (manifest/inspection.py), and this is the host's.
PLACE = Path("/var/lib/sysenv-ns/users")

# What an environment needs comes before it; whose the directories are in a user's store.
_KINDS = ((LAYERS, False), (ORIGINS_OF_ROOT, True), (ENVIRONMENTS, False))
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ACL = "system.posix_acl_access"
_ACL_VERSION = 2  # include/uapi/linux/posix_acl_xattr.h, as is the rest
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY = 0xFFFFFFFF


def path_of(uid: int, own: Path) -> Path:
    """Where root keeps what belongs to a user's store."""
    return PLACE / str(uid) / f"{zlib.crc32(os.fsencode(os.path.realpath(own))):08x}"


def beside(own: Path) -> Store:
    """What root keeps for the calling user, who can read it."""
    return Store(path_of(os.getuid(), own))


def of_user() -> Store:
    """The store of this process's user, with what root keeps beside it. Raises SysenvError."""
    own = store_location()
    ownership.require(own)
    return Store(own) if os.geteuid() == 0 else Store(own, beside(own))


def of_caller(caller: Caller, own: Path) -> Store:
    """What root keeps for the user that it acts for, ready to be used. Raises SysenvError."""
    with caller.acting():
        path = path_of(caller.uid, own)
    try:
        _prepare(caller.uid, path)
    except OSError as error:
        raise SysenvError(f"{path} cannot be made: {reason(error)}", remedies.storage(error, PLACE)) from error
    store = Store(path, behalf=Behalf(own, caller.acting))
    _adopt(own, caller.uid, store)
    return store


def _prepare(uid: int, path: Path) -> None:
    for place, mode in ((PLACE.parent, 0o755), (PLACE, 0o755), (path.parent, 0o700), (path, 0o755)):
        with suppress(FileExistsError):
            os.mkdir(place, mode)
        ownership.require(place)
    acl = _readable_by(uid)
    if _ACL not in os.listxattr(path.parent) or os.getxattr(path.parent, _ACL) != acl:
        os.setxattr(path.parent, _ACL, acl)


def _readable_by(uid: int) -> bytes:
    """All for the owner, reading for one user, nothing for the group, which others may be in, and all others."""
    entries = ((_USER_OBJ, 7, _NOBODY), (_USER, 5, uid), (_GROUP_OBJ, 0, _NOBODY), (_MASK, 5, _NOBODY))
    packed = (struct.pack("<HHI", *entry) for entry in (*entries, (_OTHER, 0, _NOBODY)))
    return struct.pack("<I", _ACL_VERSION) + b"".join(packed)


def _adopt(own: Path, uid: int, store: Store) -> None:
    """Move here what an earlier version's root kept in the user's store, where that user could exchange it.

    Only what belongs to root, whoever put it there: a user can make no such directory. Raises SysenvError.
    """
    try:
        top = os.open(own, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # there is none
        return
    with opened(top):
        if os.fstat(top).st_uid != uid:
            return
        for kind, by_root in _KINDS:
            _adopt_kind(top, kind, 0 if by_root else uid, own / kind, store)


def _adopt_kind(top: int, kind: str, owner: int, source: Path, store: Store) -> None:
    try:
        directory = os.open(kind, _DIRECTORY, dir_fd=top)
    except OSError:  # there is none, or it is none
        return
    with opened(directory):
        found = _of_root(directory) if os.fstat(directory).st_uid == owner else {}
        if found:
            store.prepare()
            (store.path / kind).mkdir(mode=0o755, exist_ok=True)
        for name, status in found.items():
            _move(directory, name, status, source, store.path / kind, store)


def _of_root(directory: int) -> dict[str, os.stat_result]:
    """The directories in one that belong to root and nobody else can write to."""
    found = {}
    import re  # for root alone

    for name in sorted(name for name in os.listdir(directory) if re.fullmatch(_NAME, name)):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and status.st_uid == 0 and not status.st_mode & 0o022:
            found[name] = status
    return found


def _move(directory: int, name: str, status: os.stat_result, source: Path, target: Path, store: Store) -> None:
    if os.path.lexists(target / name):
        raise SysenvError(f"{source / name} and {target / name} both exist", "move one of them away")
    try:
        os.rename(name, target / name, src_dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise SysenvError(f"{source / name} cannot be moved to {target}: {reason(error)}") from error
        import shlex  # rarely needed

        names = shlex.join(str(source / found) for found in _of_root(directory))
        raise SysenvError(
            f"environments of the driver root are kept in {target} now, and {source / name} is on another file system",
            f"move it there and try again: sudo mv -n -t {target} {names}",
        ) from error
    if not os.path.samestat(status, os.lstat(target / name)):  # somebody has exchanged it meanwhile
        transaction.move_to_trash(target / name, store.trash)
        raise SysenvError(f"{source / name} was replaced while it was being moved", "find out which program did that")
