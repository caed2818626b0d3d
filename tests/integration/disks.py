"""File systems of a test's own that can be full, read-only or lose their power; only root can mount them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .support import IN_MEMORY, ROOT_RUN, Account, fits_in_memory, wait_for

_MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-m", "0", "-i", "8192"),  # with inodes for a base
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
    "tmpfs": (),
}
# Nothing but fsync(2) and sync(2) shall write the journal.
_OPTIONS = {"ext4": "loop,commit=1000", "xfs": "loop", "btrfs": "loop,commit=1000", "tmpfs": "mode=755"}
# XFS_IOC_GOINGDOWN and EXT4_IOC_SHUTDOWN with ..._NOLOGFLUSH: what fstests have in the place of a power cut.
_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSH = struct.pack("I", 2)
_SIZE = 2 << 30  # bytes; images are sparse


@dataclass(frozen=True)
class Disk:
    """A mounted file system that belongs to a test's user."""

    kind: str
    scratch: Path

    @property
    def directory(self) -> Path:
        """Where it is mounted."""
        return self.scratch / "shared/mounted"

    @property
    def _image(self) -> Path:
        return self.scratch / "image"

    def mount(self) -> None:
        """Mount it, as it is on the disk."""
        size = (f"size={_SIZE}",) if self.kind == "tmpfs" else ()
        options = ",".join((_OPTIONS[self.kind], *size))
        _run("mount", "-t", self.kind, "-o", options, str(self._image), str(self.directory))

    def unmount(self) -> None:
        """Unmount it, here and where it came by itself: what an ended session leaves may use it there for a moment."""
        command = ("umount", str(self.directory))
        wait_for(
            lambda: subprocess.run(command, check=False, timeout=120).returncode == 0, why="for the end of a mount"
        )

    def restart(self) -> None:
        """Mount it anew, when the kernel has let go of it: an ended session may hold it for a moment."""
        self.unmount()
        backing = Path("/sys/block").glob("loop*/loop/backing_file")
        for path in [path for path in backing if path.read_text().strip() == str(self._image)]:
            wait_for(lambda path=path: not path.exists())  # type: ignore[misc]
        self.mount()

    def allow_writing(self, allowed: bool) -> None:
        """Mount it anew for reading only, or for reading and writing."""
        _run("mount", "-o", "remount,rw" if allowed else "remount,ro", str(self.directory))

    def cut_power(self) -> None:
        """Lose everything that has not been written; it has to be restarted then, when nobody uses it."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSH)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Leave only so many bytes to the user, on btrfs by a quota."""
        if self.kind == "btrfs":
            _run("btrfs", "quota", "rescan", "--wait", str(self.directory))
            report = _run("btrfs", "qgroup", "show", "--raw", "--sync", str(self.directory))
            (used,) = (int(line.split()[1]) for line in report.splitlines() if line.startswith("0/5 "))
            _run("btrfs", "qgroup", "limit", str(used + size), "0/5", str(self.directory))
            yield
            _run("btrfs", "qgroup", "limit", "none", "0/5", str(self.directory))
            return
        if self.kind == "tmpfs":
            used = shutil.disk_usage(self.directory).used
            _run("mount", "-o", f"remount,size={used + size}", str(self.directory))
            yield
            _run("mount", "-o", f"remount,size={_SIZE}", str(self.directory))
            return
        ballast = self.directory / "ballast"
        with ballast.open("wb") as stream:
            # Twice: what the first one needs for itself.
            for _ in range(2):
                free = shutil.disk_usage(self.directory).free - size
                if free > 0:
                    os.posix_fallocate(stream.fileno(), stream.seek(0, os.SEEK_END), free)
        yield
        ballast.unlink()


@contextlib.contextmanager
def disk(kind: str, account: Account) -> Iterator[Disk]:
    """A new file system, in memory where possible, that vanishes with everything in it."""
    if not ROOT_RUN:
        pytest.skip("only root can mount")
    with _shared_directory() as scratch:
        made = Disk(kind, scratch)
        made.directory.mkdir()
        if _MAKE[kind]:
            with (scratch / "image").open("wb") as image:
                image.truncate(_SIZE)
            _run(*_MAKE[kind], str(scratch / "image"))
        made.mount()
        try:
            os.chown(made.directory, account.uid, account.gid)
            if kind == "btrfs":
                _run("btrfs", "quota", "enable", str(made.directory))
            yield made
        finally:
            made.unmount()


@contextlib.contextmanager
def _shared_directory() -> Iterator[Path]:
    """A new directory; mounts below its `shared` come and go in other namespaces too, whatever the host's own do."""
    parent = IN_MEMORY if fits_in_memory(_SIZE) else Path("/var/tmp")
    scratch = Path(tempfile.mkdtemp(prefix=f"sysenv-disk-{os.getpid()}-", dir=parent))
    try:
        scratch.chmod(0o755)
        directory = scratch / "shared"
        directory.mkdir()
        _run("mount", "--bind", str(directory), str(directory))
        try:
            _run("mount", "--make-shared", str(directory))
            yield scratch
        finally:
            _run("umount", str(directory))
    finally:
        shutil.rmtree(scratch)


def remove_left_over(pid: str) -> None:
    """Unmount what a killed session of that process id has left; its directories are deleted with all others."""
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    for point in reversed([point for point in mounts if f"/sysenv-disk-{pid}-" in point]):
        _run("umount", point)


def _run(*command: str) -> str:
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout
