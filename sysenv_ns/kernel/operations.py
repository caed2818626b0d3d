"""The mount operations of a plan: each can be printed (describe) and carried out; which ones, layout.py decides.

Everything goes by descriptors (the mount API of Linux 5.2): no path needs escaping and none meets the length
limits of fsconfig(2) and mount(2). Detached mounts are made first and attached afterwards, so that an environment
stored below a bound directory does not show its own root inside itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import syscalls

_BUSY_PATIENCE = 3.0  # seconds that the kernel may take to let go of the last session's overlay
_O_PATH = os.O_PATH | os.O_CLOEXEC
# Before Linux 6.5 overlayfs is asked by a way that has no descriptors; then, before 6.13, fsconfig(2) takes none that
# was opened with O_PATH (fs/fsopen.c: fget), and of others overlayfs says that it wants a string.
_NO_DESCRIPTORS = (errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)

_T = TypeVar("_T")


class Operation(Protocol):
    """One step. `prepare` makes a detached mount (or None); `attach` puts it below the new root."""

    @property
    def target(self) -> str:
        """Where, as a path of the environment."""

    def describe(self) -> str:
        """One line for -v and for tests."""

    def prepare(self) -> int | None:
        """Make a detached mount and return its descriptor. Raises OSError."""

    def attach(self, root: int, mount: int | None) -> None:
        """Carry the step out below the root behind the descriptor `root`. Raises OSError."""


@dataclass(frozen=True)
class Overlay:
    """An overlayfs mount. `lowers` and `data_roots` are searched in order, uppermost first."""

    target: str
    source: str
    lowers: tuple[str, ...]
    data_roots: tuple[str, ...]
    upper: str
    work: str
    unprivileged: bool
    apart: str = ""  # an empty directory to mount the lowest layer on, where others of them lie in it
    volatile: bool = False  # nothing is written to the disk before it must be: a crash may cost it all

    def describe(self) -> str:
        lowers = ":".join(self.lowers) + "".join(f"::{root}" for root in self.data_roots)
        flags = ",userxattr,index=on" if self.unprivileged else ""
        volatile = ",volatile" if self.volatile else ""
        return f"overlay {self.target} lower={lowers} upper={self.upper}{flags}{volatile}"

    def prepare(self) -> int:
        deadline = time.monotonic() + _BUSY_PATIENCE
        while True:
            try:
                return self._mount()
            except OSError as error:
                # The kernel takes the last session's mount down after its last process has been reaped.
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def _mount(self) -> int:
        with contextlib.ExitStack() as stack:
            context = stack.enter_context(syscalls.FilesystemContext("overlay"))
            context.set_string("source", self.source)
            if self.unprivileged:
                context.set_flag("userxattr")
                # Makes the kernel refuse a second mount of the same upper; it cannot be kept up without privileges
                # and falls back to off after that check.
                context.set_string("index", "on")
            else:
                # What a layer holds shall not depend on the defaults of a kernel: nothing in it may refer to others.
                for key in ("index", "metacopy", "redirect_dir"):
                    context.set_string(key, "off")
            if self.volatile:
                context.set_flag("volatile")
            lowers, data_roots, upper = (
                [_open_directory(path, stack) for path in paths]
                for paths in (self.lowers, self.data_roots, (self.upper, self.work))
            )
            if self.apart:
                lowers[-1] = stack.enter_context(_mounted_apart(lowers[-1], self.apart))
            return _mount_layers(context, lowers, data_roots, upper)

    def attach(self, root: int, mount: int | None) -> None:
        attach_mount(root, self.target, mount, directory=True)


def _open_directory(path: str, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, _O_PATH | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


@contextlib.contextmanager
def _mounted_apart(directory: int, point: str) -> Iterator[int]:
    """A directory as a file system of its own, an overlay of nothing else: other layers may lie in it then.

    overlayfs refuses a layer that lies in another one (ELOOP), and what is not mounted anywhere (before Linux 6.15).
    """
    place = os.open(point, _O_PATH | os.O_DIRECTORY)
    try:
        with syscalls.FilesystemContext("tmpfs") as context:
            empty = context.mount()  # two layers there must be
        syscalls.move_mount(empty, place, point)
        try:
            with syscalls.FilesystemContext("overlay") as context:
                overlay = _mount_layers(context, [empty, directory], [], [])
            syscalls.move_mount(overlay, empty, point)
            try:
                yield overlay
            finally:
                syscalls.umount(point, syscalls.MNT_DETACH)
                os.close(overlay)
        finally:
            syscalls.umount(point, syscalls.MNT_DETACH)
            os.close(empty)
    finally:
        os.close(place)


def _mount_layers(
    context: syscalls.FilesystemContext, lowers: Sequence[int], data_roots: Sequence[int], upper: Sequence[int]
) -> int:
    """Mount layers given as descriptors (`upper`: it and its work directory, or nothing).

    Before Linux 6.13, which takes none, by the names that these have in /proc: of all lower layers together 255 bytes.
    """
    layers = [
        *zip(("upperdir", "workdir"), upper, strict=False),
        *(("lowerdir+", descriptor) for descriptor in lowers),
        *(("datadir+", descriptor) for descriptor in data_roots),
    ]
    for number, (key, descriptor) in enumerate(layers):
        try:
            context.set_fd(key, descriptor)
        except OSError as error:
            if number > 0 or error.errno not in _NO_DESCRIPTORS:
                raise
            break
    else:
        return context.mount()
    os.chdir("/proc/self/fd")  # the shortest names, and they need no escaping; read when it is mounted
    try:
        # A directory that cannot be an upper is refused here once more.
        for key, descriptor in zip(("upperdir", "workdir"), upper, strict=False):
            context.set_string(key, str(descriptor))
        context.set_string("lowerdir", ":".join(map(str, lowers)) + "".join(f"::{root}" for root in data_roots))
        return context.mount()
    finally:
        os.chdir("/")


@dataclass(frozen=True)
class Bind:
    """The host's own directory or file, with everything mounted below it."""

    source: str
    target: str
    directory: bool = True
    readonly: bool = False

    def describe(self) -> str:
        return f"bind {self.source} on {self.target}{' read-only' if self.readonly else ''}"

    def prepare(self) -> int:
        # Recursive: a user namespace locks the mounts it inherits, and a bind that would uncover one is refused.
        mount = syscalls.open_tree(self.source, clone=True, recursive=True, follow=False)
        if self.readonly:
            syscalls.mount_setattr_readonly(mount, self.source)
        return mount

    def attach(self, root: int, mount: int | None) -> None:
        attach_mount(root, self.target, mount, self.directory)


@dataclass(frozen=True)
class Tmpfs:
    """An empty file system in memory."""

    target: str
    mode: int

    def describe(self) -> str:
        return f"tmpfs {self.target} mode={self.mode:o}"

    def prepare(self) -> int:
        with syscalls.FilesystemContext("tmpfs") as context:
            for key, value in (("mode", f"{self.mode:o}"), ("uid", "0"), ("gid", "0")):
                context.set_string(key, value)
            return context.mount()

    def attach(self, root: int, mount: int | None) -> None:
        attach_mount(root, self.target, mount, directory=True)


@dataclass(frozen=True)
class Directory:
    """A directory made on top of a tmpfs of the plan; uid and gid as inside."""

    target: str
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        return f"mkdir {self.target} mode={self.mode:o} owner={self.uid}:{self.gid}"

    def prepare(self) -> None:
        return None

    def attach(self, root: int, mount: int | None) -> None:
        path = self.target[1:]
        os.mkdir(path, dir_fd=root)
        os.chown(path, self.uid, self.gid, dir_fd=root, follow_symlinks=False)
        os.chmod(path, self.mode, dir_fd=root)


@dataclass(frozen=True)
class Symlink:
    """A symbolic link made on top of a tmpfs of the plan."""

    target: str
    destination: str

    def describe(self) -> str:
        return f"symlink {self.target} to {self.destination}"

    def prepare(self) -> None:
        return None

    def attach(self, root: int, mount: int | None) -> None:
        os.symlink(self.destination, self.target[1:], dir_fd=root)
        os.chown(self.target[1:], 0, 0, dir_fd=root, follow_symlinks=False)


@dataclass(frozen=True)
class File:
    """A file with given content made on top of a tmpfs of the plan."""

    target: str
    mode: int
    uid: int
    gid: int
    content: bytes

    def describe(self) -> str:
        return f"write {self.target} ({len(self.content)} bytes)"

    def prepare(self) -> None:
        return None

    def attach(self, root: int, mount: int | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.target[1:], flags, 0o600, dir_fd=root)
        try:
            os.write(descriptor, self.content)
            os.fchown(descriptor, self.uid, self.gid)
            os.fchmod(descriptor, self.mode)
        finally:
            os.close(descriptor)


def execute(plan: Sequence[Operation], mount_point: str, log: Callable[[str], None]) -> int:
    """Carry out a plan whose first operation is the root; returns a descriptor of the mounted root.

    The root is attached at `mount_point`, in this mount namespace only. Raises SysenvError naming the operation.
    """
    mounts: list[int | None] = []
    for operation in plan:
        log(operation.describe())
        mounts.append(_named(operation, operation.prepare))
    host = os.open(mount_point, _O_PATH | os.O_DIRECTORY)
    root_mount = mounts[0]
    assert root_mount is not None
    syscalls.move_mount(root_mount, host, mount_point)
    os.close(host)
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


def attach_mount(root: int, target: str, mount: int | None, directory: bool) -> None:
    """Attach a detached mount below a root, on a mount point that is made when it is missing. Raises OSError."""
    assert mount is not None
    # Symbolic links of the environment are its own: resolved inside its root, not the host's.
    try:
        point = syscalls.openat2(root, target, _O_PATH, syscalls.RESOLVE_IN_ROOT)
    except FileNotFoundError:
        _make_mount_point(root, target, directory)
        point = syscalls.openat2(root, target, _O_PATH, syscalls.RESOLVE_IN_ROOT)
    try:
        syscalls.move_mount(mount, point, target)
    finally:
        os.close(point)


def _make_mount_point(root: int, target: str, directory: bool) -> None:
    """The environment has removed what the host mounts something on: make it again."""
    parent, _, name = target.rpartition("/")
    if parent:
        try:
            parent_fd = syscalls.openat2(root, parent, _O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_IN_ROOT)
        except FileNotFoundError:
            _make_mount_point(root, parent, directory=True)
            parent_fd = syscalls.openat2(root, parent, _O_PATH | os.O_DIRECTORY, syscalls.RESOLVE_IN_ROOT)
    else:
        parent_fd = os.dup(root)
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent_fd))
    finally:
        os.close(parent_fd)
