"""Overlays as operations of a plan, above all those of overlayfs; and how it describes them."""

from __future__ import annotations

import errno
import os
import time
from abc import ABC, abstractmethod

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import contextmanager, opened
from sysenv_ns.kernel import syscalls
from sysenv_ns.kernel.operations import MountOperation
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BUSY_PATIENCE = 3.0  # seconds that the kernel may take to let go of the last session's overlay
_O_PATH = os.O_PATH | os.O_CLOEXEC
# Before Linux 6.5 overlayfs is asked by a way that has no descriptors; then, before 6.13, fsconfig(2) takes none that
# was opened with O_PATH (fs/fsopen.c: fget), and of others overlayfs says that it wants a string.
_NO_DESCRIPTORS = (errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)


@dataclass(frozen=True)
class UnionMount(MountOperation, ABC):
    """Directories mounted over each other: changes go to `upper`, `lowers` are searched in order, uppermost first."""

    target: str
    source: str
    lowers: tuple[str, ...]
    upper: str
    work: str

    @abstractmethod
    def describe(self) -> str:
        """See Operation."""

    @abstractmethod
    def prepare(self) -> int:
        """See Operation."""


@dataclass(frozen=True)
class Overlay(UnionMount):
    """An overlayfs mount. `data_roots` are data-only lowers, also searched in order."""

    data_roots: tuple[str, ...] = ()
    unprivileged: bool = True
    apart: str = ""  # an empty directory to mount the lowest layer on, where others of them lie in it
    volatile: bool = False  # nothing is written to the disk before it must be: a crash may cost it all

    def describe(self) -> str:
        lowers = ":".join(self.lowers) + "".join(f"::{root}" for root in self.data_roots)
        flags = ",userxattr,index=on" if self.unprivileged else ""
        volatile = ",volatile" if self.volatile else ""
        return f"overlay {self.target} lower={lowers} upper={self.upper}{flags}{volatile}"

    def prepare(self) -> int:
        deadline, pause = time.monotonic() + _BUSY_PATIENCE, 0.005
        while True:
            try:
                return self._mount()
            except OSError as error:
                # The kernel takes the last session's mount down after its last process has been reaped.
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 0.2)  # the kernel logs each

    def _mount(self) -> int:
        with syscalls.FilesystemContext("overlay") as context, _Directories() as directories:
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
                [directories.held(path) for path in paths]
                for paths in (self.lowers, self.data_roots, (self.upper, self.work))
            )
            if not self.apart:
                return _mount_layers(context, lowers, data_roots, upper)
            with _mounted_apart(lowers[-1], self.apart) as lowest:
                return _mount_layers(context, [*lowers[:-1], lowest], data_roots, upper)


class _Directories:
    """Directories that are open as long as its context."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def __enter__(self) -> _Directories:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)

    def held(self, path: str) -> int:
        self._descriptors.append(os.open(path, _O_PATH | os.O_DIRECTORY))
        return self._descriptors[-1]


@contextmanager
def _mounted_apart(directory: int, point: str) -> Iterator[int]:
    """A directory as a file system of its own, an overlay of only that: then other layers may be inside it.

    overlayfs refuses a layer inside another one (ELOOP), and a detached mount (before Linux 6.15).
    """
    with opened(syscalls.new_tmpfs()) as empty:  # two layers there must be
        syscalls.attach(empty, point)
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


def _mount_layers(
    context: syscalls.FilesystemContext, lowers: Sequence[int], data_roots: Sequence[int], upper: Sequence[int]
) -> int:
    """Mount layers given as descriptors (`upper`: it and its work directory, or nothing).

    Before Linux 6.13, which takes no descriptors, by their names in /proc: all lower layers together have 255 bytes.
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


def is_mounted(upper: Path) -> bool:
    """Whether an overlay of this machine uses a directory as its upper. For root; raises OSError.

    The kernel checks that before it finds that upper and work are on different mounts, so nothing is mounted or
    changed by asking (ovl_fill_super() in fs/overlayfs/super.c).
    """
    descriptor = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with syscalls.FilesystemContext("overlay") as context:
            directory = f"/proc/self/fd/{descriptor}"
            for key, value in (("index", "on"), ("lowerdir", "/"), ("upperdir", directory), ("workdir", "/proc/self")):
                context.set_string(key, value)
            os.close(context.mount())
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
    return False
