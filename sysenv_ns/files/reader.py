"""Opens and reads files that others may have put there: the only place that does; writes and decides nothing.

In an environment, in a store that root works in, and beside a stranger's manifest a name can be a named pipe, which
blocks open(2) forever; an endless file; or a symbolic link to what only the reader may read. So a file
is opened without waiting and without following a link that leads out, and it is the open descriptor, not the name, that
is checked. Device nodes are no danger: only real root can create one that does something when it is opened.
"""

from __future__ import annotations

import errno
import os
import stat

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.basics import contextmanager, opened
from sysenv_ns.kernel import syscalls
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from typing import Any, Literal, TypeAlias

# Bytes of a file that is read whole. The status file of a system with 10,000 packages has 15 MB.
LIMIT = 64 << 20
# The same of a description that a person or this tool has written.
DOCUMENT_LIMIT = 16 << 20
CHUNK = 1 << 20

# What becomes of symbolic links below a root: none is followed; those that stay below are (others are EXDEV); or all
# are, as somebody sees them whose root it is.
Links: TypeAlias = "Literal['refused', 'beneath', 'inside']"

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE = {
    "refused": syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS,
    "beneath": syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS,
    "inside": syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS,
}
_LINKS = 40  # as many as the kernel follows, path_resolution(7)
_TRIES = 100  # openat2(2): EAGAIN where something on the way was being renamed
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)
_NO_FILE = (*_MISSING, errno.EISDIR, errno.EINVAL, errno.ENXIO)  # the last one of a socket


def open_file(path: str | Path, *, dir_fd: int | None = None, follow: bool = False) -> int:
    """A descriptor of a regular file; nobody else may be able to replace directories of its path.

    A link at its end is followed on request, for the host's own files. Raises OSError: ELOOP for a link, EISDIR and
    EINVAL for other types of files.
    """
    return regular(os.open(path, _FILE & ~os.O_NOFOLLOW if follow else _FILE, dir_fd=dir_fd), str(path))


def stream(path: str | Path, *, follow: bool = False) -> BufferedReader:
    """The same as a file object, to read piece by piece. Raises OSError."""
    return open(open_file(path, follow=follow), "rb")


def read(path: str | Path, limit: int = LIMIT, *, dir_fd: int | None = None, follow: bool = False) -> bytes:
    """The whole content of such a file. Raises OSError; EFBIG for one of more than `limit` bytes."""
    return _whole(open_file(path, dir_fd=dir_fd, follow=follow), limit, str(path))


def get(path: str | Path, limit: int = LIMIT, *, follow: bool = False) -> bytes | None:
    """The same; None if there is no regular file. Raises OSError for one that cannot be read."""
    with _or_none():
        return read(path, limit, follow=follow)
    return None


def read_json(path: str | Path, limit: int = DOCUMENT_LIMIT) -> Any:
    """The document in such a file. Raises OSError; ValueError for invalid JSON (documents.py)."""
    return documents.parse_json(read(path, limit))


def regular(descriptor: int, path: str) -> int:
    """The descriptor, if it is of a regular file; else it is closed. Raises OSError with the path."""
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind == stat.S_IFREG:
        return descriptor
    os.close(descriptor)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "It is not a regular file", path)


def content(descriptor: int, limit: int = LIMIT) -> Iterator[bytes]:
    """The content of an open file in pieces, up to a limit. Raises OSError."""
    while limit and (data := os.read(descriptor, min(limit, CHUNK))):
        limit -= len(data)
        yield data


def _whole(descriptor: int, limit: int, path: str) -> bytes:
    """The whole content of an open file; closes it."""
    with opened(descriptor):
        # Whatever its size is said to be: it can grow meanwhile.
        if os.fstat(descriptor).st_size <= limit and len(data := b"".join(content(descriptor, limit + 1))) <= limit:
            return data
    raise OSError(errno.EFBIG, f"It has more than {limit} bytes", path)


class Root:
    """A directory, not a link to one, with contents under somebody else's control; a context manager.

    It is held open. Paths below it may begin with a slash. Every method raises OSError with the whole path: ELOOP if
    a link is refused, EXDEV if it leads out.
    """

    def __init__(self, path: str | Path, links: Links = "refused") -> None:
        self._descriptor = -1
        self.path = str(path).rstrip("/")
        self._links: Links = links
        self._descriptor = os.open(path, _LOOK | os.O_DIRECTORY)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; garbage collection does that too, as with a file object."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close

    def open(self, path: str) -> int:
        """A descriptor of a regular file."""
        flags = _FILE if self._links == "refused" else _FILE & ~os.O_NOFOLLOW
        return regular(self._opened(path, flags), self._name(path))

    def stream(self, path: str) -> BufferedReader:
        """The same as a file object."""
        return open(self.open(path), "rb")

    def read(self, path: str, limit: int = LIMIT) -> bytes:
        """The whole content of a regular file; EFBIG for a longer one."""
        return _whole(self.open(path), limit, self._name(path))

    def get(self, path: str, limit: int = LIMIT) -> bytes | None:
        """The same; None if there is no regular file."""
        with _or_none():
            return self.read(path, limit)
        return None

    def directory(self, path: str, holder: int | None = None) -> int:
        """A descriptor of a directory, to list it.

        `holder`: an open descriptor of the directory that it is in, which is a shorter way.
        """
        if holder is not None and self._links == "refused":
            return os.open(path.rpartition("/")[2], _DIRECTORY, dir_fd=holder)
        flags = _DIRECTORY if self._links == "refused" else _DIRECTORY & ~os.O_NOFOLLOW
        return self._opened(path, flags)

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        with opened(self.directory(path)) as descriptor:
            return os.listdir(descriptor)

    def look(self, path: str) -> int:
        """A descriptor of any type of file, even a symbolic link, that cannot be read from (O_PATH)."""
        return self._opened(path, _LOOK)

    def status(self, path: str) -> os.stat_result:
        """lstat(2)."""
        with opened(self.look(path)) as descriptor:
            return os.fstat(descriptor)

    def link(self, path: str) -> str:
        """The target of a symbolic link; EINVAL if it is not one."""
        with opened(self.look(path)) as descriptor:
            if not stat.S_ISLNK(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self._name(path))
            return os.readlink("", dir_fd=descriptor)

    def has(self, path: str) -> bool:
        """Whether anything is there and can be reached."""
        return self.find(path) is not None

    def find(self, path: str) -> os.stat_result | None:
        """lstat(2); None if nothing is there, or it cannot be reached."""
        try:
            return self.status(path)
        except OSError as error:
            if is_missing(error):
                return None
            raise

    def _name(self, path: str) -> str:
        return f"{self.path}/{path.lstrip('/')}".rstrip("/") or "/"

    def _opened(self, path: str, flags: int) -> int:
        relative = path.strip("/") or "."
        try:
            try:
                return _retried(lambda: syscalls.openat2(self._descriptor, relative, flags, _RESOLVE[self._links]))
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EPERM):  # Linux before 5.6; a container's seccomp filter
                    raise
                return _Descent(self._descriptor, self._links).open(relative, flags)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name(path)) from None


def is_missing(error: OSError) -> bool:
    """Whether an error means that nothing is at a path, or it cannot be reached without leaving a root."""
    return error.errno in _MISSING


@contextmanager
def _or_none() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise


def _retried(call: Callable[[], int]) -> int:
    for _ in range(_TRIES):
        try:
            return call()
        except BlockingIOError:
            continue
    return call()


class _Descent:
    """openat2(2) emulated with openat(2): one directory after the other, none of which may be a link."""

    def __init__(self, root: int, links: Links) -> None:
        self._links = links
        self._way = [os.dup(root)]  # from the root down: where .. leads

    def open(self, path: str, flags: int) -> int:
        try:
            return self._open(path, flags)
        finally:
            for descriptor in self._way:
                os.close(descriptor)

    def _open(self, path: str, flags: int) -> int:
        left, followed = path.split("/"), 0
        while left:
            part = left.pop(0)
            is_last = not any(left)
            if part in ("", "."):
                continue
            if part == "..":
                self._up()
                continue
            target = self._target(part) if not is_last or not flags & os.O_NOFOLLOW else None
            if target is None:
                if is_last:
                    return os.open(part, flags | os.O_NOFOLLOW, dir_fd=self._way[-1])
                self._way.append(os.open(part, _LOOK | os.O_DIRECTORY, dir_fd=self._way[-1]))
                continue
            followed += 1
            if self._links == "refused" or followed > _LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            left[:0] = target.split("/")
            if target.startswith("/"):
                self._top()
        return os.open(".", flags, dir_fd=self._way[-1])

    def _target(self, name: str) -> str | None:
        try:
            return os.readlink(name, dir_fd=self._way[-1])
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is no link
                raise
            return None

    def _up(self) -> None:
        if len(self._way) > 1:
            os.close(self._way.pop())
        elif self._links != "inside":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def _top(self) -> None:
        if self._links != "inside":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        while len(self._way) > 1:
            self._up()


def names(directory: str) -> list[str]:
    """The names in a directory; none where there is none that can be read."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def is_directory(path: Path) -> bool:
    """Whether a path is a directory and not a link to one: root must not follow links out of a user's store."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False
