"""Paths for the modules that each start imports; the others use pathlib's, which equal these and can be mixed in.

pathlib, with the regular expressions, URLs and addresses that it imports, would take a fifth of the time of a start. It
does what is not here, when that is asked for.
"""

from __future__ import annotations

import errno
import os
import stat

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened

if TYPE_CHECKING:
    from pathlib import Path
else:

    class Path:
        """What pathlib.Path is."""

        __slots__ = ("_path",)

        def __init__(self, *segments):
            self._path = _normal(os.path.join("", *segments))

        def __fspath__(self):
            return self._path

        __str__ = __fspath__

        def __repr__(self):
            return repr(_of_pathlib(self))

        def __truediv__(self, other):
            return Path(self._path, other)

        def __rtruediv__(self, other):
            return Path(other, self._path)

        def __eq__(self, other):
            return self._path == os.fspath(other) if isinstance(other, os.PathLike) else NotImplemented

        def __hash__(self):
            return hash(_of_pathlib(self))

        def __lt__(self, other):
            return _of_pathlib(self) < _of_pathlib(other)

        def __gt__(self, other):
            return _of_pathlib(self) > _of_pathlib(other)

        @property
        def name(self):
            return "" if self._path == "." else self._path.rpartition("/")[2]

        @property
        def parent(self):
            return Path(os.path.dirname(self._path))

        def lstat(self):
            return os.lstat(self._path)

        def stat(self):
            return os.stat(self._path)

        def exists(self):
            return _mode(os.stat, self._path) is not None

        def is_dir(self):
            mode = _mode(os.stat, self._path)
            return mode is not None and stat.S_ISDIR(mode)

        def is_symlink(self):
            mode = _mode(os.lstat, self._path)
            return mode is not None and stat.S_ISLNK(mode)

        def mkdir(self, mode=0o777, parents=False, exist_ok=False):
            try:
                os.mkdir(self._path, mode)
            except FileNotFoundError:
                if not parents:
                    raise
                _of_pathlib(self).mkdir(mode, parents, exist_ok)
            except OSError:
                if not (exist_ok and self.is_dir()):
                    raise

        def touch(self, mode=0o666, exist_ok=True):
            exclusive = 0 if exist_ok else os.O_EXCL
            with opened(os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | exclusive, mode)) as descriptor:
                os.utime(descriptor)

        def unlink(self, missing_ok=False):
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

        def read_bytes(self):
            with open(self._path, "rb") as stream:
                return stream.read()

        def write_bytes(self, data):
            with open(self._path, "wb") as stream:
                return stream.write(data)

        def read_text(self, encoding=None, errors=None):
            with open(self._path, encoding=encoding, errors=errors) as stream:
                return stream.read()

        def write_text(self, data, encoding=None, errors=None, newline=None):
            with open(self._path, "w", encoding=encoding, errors=errors, newline=newline) as stream:
                return stream.write(data)

        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(_of_pathlib(self), name)


def _normal(path: str) -> str:
    """A path without what says nothing: dots, and slashes at the end or twice."""
    root = "" if path[:1] != "/" else "//" if path[:2] == "//" != path[1:3] else "/"
    return root + "/".join([part for part in path.split("/") if part not in ("", ".")]) or "."


def _mode(look, path):  # type: ignore[no-untyped-def]
    """The mode of what is there; None if nothing is, but not if one may not look."""
    try:
        return look(path).st_mode
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP):
            raise
    except ValueError:  # a null byte
        pass
    return None


def _of_pathlib(path):  # type: ignore[no-untyped-def]
    import pathlib

    return pathlib.Path(path)


def current_directory() -> str:
    """The current directory; "" where it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


__all__ = ["Path", "current_directory"]
