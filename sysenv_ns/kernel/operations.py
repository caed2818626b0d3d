"""The mount operations of a plan: each can be described and carried out; layout.py decides which there are.

Everything uses descriptors (the mount API of Linux 5.2): no path needs escaping or is subject to the length
limits of fsconfig(2) and mount(2). Detached mounts are made first and attached afterwards, so that an environment
stored below a bound directory does not show its own root inside itself.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import Protocol, opened, suppress
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import syscalls
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")

_O_PATH = os.O_PATH | os.O_CLOEXEC


class Operation(Protocol):
    """One step. `prepare` makes a detached mount (or None); `attach` puts it below the new root."""

    @property
    def target(self) -> str:
        """The mount point, as a path of the environment."""

    def describe(self) -> str:
        """One line for -v and for tests."""

    def prepare(self) -> int | None:
        """Make a detached mount and return its descriptor. Raises OSError."""

    def attach(self, root: int, mount: int | None) -> None:
        """Carry out the step below the root with the descriptor `root`. Raises OSError."""


class MountOperation:
    """What operations that mount something have in common. Raises OSError."""

    target: str
    directory = True  # or a file is mounted

    def attach(self, root: int, mount: int | None) -> None:
        """See Operation; the mount point is created if it is missing."""
        assert mount is not None
        # Symbolic links of the environment are its own: resolved inside its root, not the host's.
        try:
            point = syscalls.openat2(root, self.target, _O_PATH, syscalls.RESOLVE_IN_ROOT)
        except FileNotFoundError:
            _make_mount_point(root, self.target, self.directory)
            point = syscalls.openat2(root, self.target, _O_PATH, syscalls.RESOLVE_IN_ROOT)
        with opened(point):
            syscalls.move_mount(mount, point, self.target)


class EntryOperation:
    """What operations that make something on top of a tmpfs of the plan have in common."""

    def prepare(self) -> None:
        """See Operation: there is nothing to mount."""


@dataclass(frozen=True)
class Bind(MountOperation):
    """The host's own directory or file, with everything mounted below it."""

    source: str
    target: str
    directory: bool = True
    readonly: bool = False

    def describe(self) -> str:
        return f"bind {self.source} on {self.target}{' read-only' if self.readonly else ''}"

    def prepare(self) -> int:
        # Recursive: a user namespace locks the mounts it inherits, and a bind that would uncover one is refused.
        mount = syscalls.open_tree(self.source, recursive=True)
        if self.readonly:
            syscalls.mount_setattr_readonly(mount, self.source)
        return mount


@dataclass(frozen=True)
class Tmpfs(MountOperation):
    """An empty file system in memory."""

    target: str
    mode: int

    def describe(self) -> str:
        return f"tmpfs {self.target} mode={self.mode:o}"

    def prepare(self) -> int:
        return syscalls.new_tmpfs(self.mode)


@dataclass(frozen=True)
class Directory(EntryOperation):
    """A directory made on top of a tmpfs of the plan; uid and gid as inside."""

    target: str
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        return f"mkdir {self.target} mode={self.mode:o} owner={self.uid}:{self.gid}"

    def attach(self, root: int, mount: int | None) -> None:
        path = self.target[1:]
        os.mkdir(path, dir_fd=root)
        os.chown(path, self.uid, self.gid, dir_fd=root, follow_symlinks=False)
        os.chmod(path, self.mode, dir_fd=root)


@dataclass(frozen=True)
class Symlink(EntryOperation):
    """A symbolic link made on top of a tmpfs of the plan."""

    target: str
    destination: str

    def describe(self) -> str:
        return f"symlink {self.target} to {self.destination}"

    def attach(self, root: int, mount: int | None) -> None:
        os.symlink(self.destination, self.target[1:], dir_fd=root)
        os.chown(self.target[1:], 0, 0, dir_fd=root, follow_symlinks=False)


@dataclass(frozen=True)
class File(EntryOperation):
    """A file with given content made on top of a tmpfs of the plan."""

    target: str
    mode: int
    uid: int
    gid: int
    content: bytes

    def describe(self) -> str:
        return f"write {self.target} ({len(self.content)} bytes)"

    def attach(self, root: int, mount: int | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with opened(os.open(self.target[1:], flags, 0o600, dir_fd=root)) as descriptor:
            os.write(descriptor, self.content)
            os.fchown(descriptor, self.uid, self.gid)
            os.fchmod(descriptor, self.mode)


def execute(plan: Sequence[Operation], mount_point: str, log: Callable[[str], None]) -> int:
    """Carry out a plan whose first operation is the root; returns a descriptor of the mounted root.

    The root is attached at `mount_point`, in this mount namespace only. Raises SysenvError naming the operation.
    """
    for operation in plan:
        log(operation.describe())
    # Inner ones first: overlayfs does not like an upper that lies in one which is mounted already.
    mounts = [_named(operation, operation.prepare) for operation in reversed(plan)][::-1]
    root_mount = mounts[0]
    assert root_mount is not None
    syscalls.attach(root_mount, mount_point)
    for operation, mount in zip(plan[1:], mounts[1:], strict=True):
        _named(operation, lambda op=operation, fd=mount: op.attach(root_mount, fd))  # type: ignore[misc]
        if mount is not None:
            os.close(mount)
    return root_mount


def _named(operation: Operation, action: Callable[[], _T]) -> _T:
    try:
        return action()
    except OSError as error:
        raise SysenvError(
            f"{operation.describe().split(' lower=')[0]} failed: {reason(error)}",
            "run `sysenv-ns doctor` to see what this system allows",
        ) from error


def _make_mount_point(root: int, target: str, directory: bool) -> None:
    """Create a mount point of the host's that the environment has removed.

    It may be there after all: under load fuse-overlayfs once did not find a directory that existed.
    """
    parent, _, name = target.rpartition("/")
    if parent:
        try:
            parent_fd = syscalls.openat2(root, parent, _O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_IN_ROOT)
        except FileNotFoundError:
            _make_mount_point(root, parent, directory=True)
            parent_fd = syscalls.openat2(root, parent, _O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_IN_ROOT)
    else:
        parent_fd = os.dup(root)
    with opened(parent_fd), suppress(FileExistsError):
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent_fd))
