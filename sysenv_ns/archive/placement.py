"""Creates the files of an archive in a directory, in the form of an environment's driver and id map; checks no names.

Every step uses descriptors of directories and follows no symbolic link. This process must be root of the namespace
of the environment. Directories are closed to others until everything is there; then they get their metadata.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from sysenv_ns.archive import attributes
from sysenv_ns.archive.tarball import Damaged, Member, shown
from sysenv_ns.basics import opened
from sysenv_ns.errors import SysenvError
from sysenv_ns.files.marks import WHITEOUT_PREFIX, Marks
from sysenv_ns.kernel import answers, syscalls
from sysenv_ns.kernel.idmap import OVERFLOW_ID, IdMap

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
_WITHIN = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
_FUSE_WHITEOUT = WHITEOUT_PREFIX.encode()
_LARGE = 1 << 20  # bytes
_MANY_LOST = 20  # kinds of what is lost that are told apart
# What a file system has not, or a namespace does not allow.
_IMPOSSIBLE = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)

Piece = tuple[int, bytes]  # where in the file, and what


class Placer:
    """Creates files. `lost` counts properties that are not possible here, by kind."""

    def __init__(self, directory: Path, marks: Marks, id_map: IdMap | None) -> None:
        self._root = os.open(directory, _DIRECTORY)
        if os.fstat(self._root).st_uid != (0 if id_map is None else id_map.own_uid):
            raise OSError(errno.EPERM, "it belongs to another user", str(directory))
        self._marks = marks
        self._id_map = id_map
        self._parent = (b"", os.dup(self._root))
        self.lost: Counter[str] = Counter()

    def directory(self, path: bytes) -> None:
        """A directory, which gets its owner, mode, attributes and times in `finish`. Raises OSError."""
        parent, name = self._open(path)
        os.mkdir(name, 0o700, dir_fd=parent)

    def file(self, path: bytes, member: Member, content: Iterable[Piece]) -> None:
        """A regular file; gaps between the pieces are holes. Raises OSError."""
        parent, name = self._open(path)
        self._check_room(path, member)
        with opened(os.open(name, _FILE, 0o600, dir_fd=parent)) as descriptor:
            for offset, data in content:
                _write(descriptor, offset, data)
            os.ftruncate(descriptor, member.size)
            self._dress(descriptor, member, self._owner(member))

    def link(self, path: bytes, first: bytes) -> None:
        """A hard link. Raises OSError."""
        directory, _, target = first.rpartition(b"/")
        with opened(self._walk(directory)) as source:
            parent, name = self._open(path)
            os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def whiteout(self, path: bytes) -> None:
        """A whiteout of that name. Raises OSError."""
        parent, name = self._open(path)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except OSError as error:
            if not self._marks.by_name or error.errno != errno.EPERM:  # before Linux 5.8
                raise
            os.close(os.open(_FUSE_WHITEOUT + name, _FILE, 0o600, dir_fd=parent))

    def other(self, path: bytes, member: Member) -> None:
        """A symbolic link, a named pipe or a socket. Raises OSError."""
        parent, name = self._open(path)
        if member.kind == "symlink":
            os.symlink(member.target, name, dir_fd=parent)
        else:
            os.mknod(name, _NODES[member.kind] | 0o600, dir_fd=parent)
        place = b"/proc/self/fd/%d/%b" % (parent, name)
        os.chown(place, *self._owner(member), follow_symlinks=False)
        self._attributes(place, member.attributes)
        if member.kind != "symlink":
            os.chmod(place, member.mode)
        os.utime(place, ns=(member.mtime_ns, member.mtime_ns), follow_symlinks=False)

    def finish(self, directories: Iterable[tuple[bytes, Member]]) -> None:
        """Give all directories their metadata, inner ones first. Raises OSError."""
        for path, member in directories:
            with opened(self._walk(path)) as descriptor:
                self._dress(descriptor, member, self._owner(member))
                if member.opaque:
                    os.setxattr(descriptor, self._marks.opaque, b"y")

    def _open(self, path: bytes) -> tuple[int, bytes]:
        """The parent directory of a path, which is kept open for the next one, and the last part."""
        directory, _, name = path.rpartition(b"/")
        if self._marks.by_name and name.startswith(_FUSE_WHITEOUT):
            raise SysenvError(
                f"fuse-overlayfs would treat {shown(path)} as a whiteout, because of its name", "use another driver"
            )
        if self._parent[0] != directory:
            descriptor = self._walk(directory)
            os.close(self._parent[1])
            self._parent = (directory, descriptor)
        return self._parent[1], name

    def _walk(self, path: bytes) -> int:
        """The directory at a path, in one step, however deep it is."""
        return syscalls.openat2(self._root, os.fsdecode(path) or ".", _DIRECTORY, _WITHIN)

    def _check_room(self, path: bytes, member: Member) -> None:
        """Raise OSError for a file that cannot be completed, before it is begun."""
        if member.stored > _LARGE:
            room = os.fstatvfs(self._root)
            if room.f_blocks and member.stored > room.f_bfree * room.f_frsize:  # of none it does not tell
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _owner(self, member: Member) -> tuple[int, int]:
        owner = (member.uid, member.gid)
        if self._id_map is None:
            return owner
        if self._id_map.kind == "single":
            self.lost["owners"] += owner != (0, 0)
            return 0, 0
        extents = (self._id_map.uids, self._id_map.gids)
        uid, gid = (n if any(e.has(n) for e in part) else OVERFLOW_ID for n, part in zip(owner, extents, strict=True))
        self.lost["owners"] += (uid, gid) != owner
        return uid, gid

    def _dress(self, descriptor: int, member: Member, owner: tuple[int, int]) -> None:
        os.chown(descriptor, *owner)  # takes capabilities and bits of the mode away, so it comes first
        self._attributes(descriptor, member.attributes)
        os.chmod(descriptor, member.mode)
        os.utime(descriptor, ns=(member.mtime_ns, member.mtime_ns))

    def _attributes(self, target: int | bytes, found: Mapping[bytes, bytes]) -> None:
        shortened = False
        for name, value in found.items():
            if not attributes.is_carried(name):
                raise Damaged(f"unknown attribute {shown(name)}")
            kept = self._list(value) if name in attributes.LISTS else value
            shortened |= kept != value
            try:
                os.setxattr(target, name, kept, follow_symlinks=isinstance(target, int))
            except OSError as error:
                if error.errno not in _IMPOSSIBLE:
                    raise
                lost = f"attribute {shown(name)}"
                self.lost[lost if lost in self.lost or len(self.lost) < _MANY_LOST else "further attributes"] += 1
        self.lost["entries"] += shortened

    def _list(self, value: bytes) -> bytes:
        """An access control list without entries for users that do not exist here."""
        if self._id_map is None or self._id_map.kind == "full":
            return value
        try:
            return answers.possible_acl(value)
        except ValueError:
            raise Damaged("invalid access control list") from None


def _write(descriptor: int, offset: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
