"""Mounts an overlay that fuse-overlayfs serves, for kernels that have none for users; plans nothing.

fuse-overlayfs is given a descriptor of a mount that is already there (libfuse: a mount point /dev/fd/N), so that it
lives in a mount namespace of its own, where the host's files are, and the environment's / is nothing to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import children, syscalls
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.kernel.operations import attach_mount
from sysenv_ns.store import file_lock

DEVICE = "/dev/fuse"
PROGRAM = "fuse-overlayfs"
INSTALL_HINT = "install it: sudo apt-get install fuse-overlayfs"

_STANDARD = (0, 1, 2)


def program() -> str:
    """The absolute path of fuse-overlayfs. Raises SysenvError when it is not installed."""
    path = find_program(PROGRAM)
    if path is None:
        raise SysenvError(f"{PROGRAM} is not installed", INSTALL_HINT)
    return path


@contextlib.contextmanager
def settled(environment: Path) -> Iterator[None]:
    """Wait until the last session's server, if there was one, has written all that is in an environment's directory.

    It holds the lock until it has ended. Raises SysenvError.
    """
    lock = environment / "upper.lock"
    with file_lock(lock) if lock.exists() else contextlib.nullcontext():
        yield


@dataclass(frozen=True)
class FuseOverlay:
    """An overlay of directories that all belong to root; `lowers` are searched in order, uppermost first."""

    target: str
    source: str
    lowers: tuple[str, ...]
    upper: str
    work: str

    def describe(self) -> str:
        """One line for -v and for tests."""
        return f"{PROGRAM} {self.target} lower={':'.join(self.lowers)} upper={self.upper}"

    def prepare(self) -> int:
        """Start the server, and return a detached mount of what it serves. Raises OSError, SysenvError."""
        path = program()
        # The last session's server may still be writing: it holds the lock until it has ended.
        with file_lock(Path(f"{self.upper}.lock")) as lock:
            device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
            mount = self._mount(device)
            errors, errors_end = os.pipe()
            inherited = (lock, device)
            starter = children.start_detached(lambda: self._serve(path, device, errors_end, inherited))
            os.close(device)
            os.close(errors_end)
            children.reap(starter)
        try:
            os.stat(".", dir_fd=mount)  # waits until it serves; fails when it has died
        except OSError:
            os.close(mount)
            with os.fdopen(errors, errors="replace") as stream:
                said = stream.read().strip() or "it said nothing"
            raise SysenvError(f"{PROGRAM} failed: {said}", "see `sysenv-ns doctor`") from None
        os.close(errors)
        return mount

    def attach(self, root: int, mount: int | None) -> None:
        """Put the mount below the new root. Raises OSError."""
        attach_mount(root, self.target, mount, directory=True)

    def _mount(self, device: int) -> int:
        with syscalls.FilesystemContext("fuse") as context:
            for key, value in (
                ("source", self.source),
                ("subtype", PROGRAM),
                ("fd", str(device)),
                ("rootmode", "40000"),
                ("user_id", "0"),
                ("group_id", "0"),
            ):
                context.set_string(key, value)
            context.set_flag("default_permissions")
            context.set_flag("allow_other")
            return context.mount()

    def _serve(self, path: str, device: int, errors: int, inherited: tuple[int, ...]) -> NoReturn:
        """Become the server; it ends when the last mount of what it serves is gone."""
        syscalls.unshare(syscalls.CLONE_NEWNS)
        # By descriptors: in a path, a comma or a colon would have to be escaped.
        layers = [os.open(name, os.O_PATH | os.O_DIRECTORY) for name in (*self.lowers, self.upper, self.work)]
        *lowers, upper, work = (f"/proc/self/fd/{descriptor}" for descriptor in layers)
        options = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work},squash_to_root,noacl"
        for target, source in zip(_STANDARD, (os.open(os.devnull, os.O_RDWR), errors, errors), strict=True):
            os.dup2(source, target)
        children.leave_session({*_STANDARD, *inherited, *layers}, PROGRAM)
        for descriptor in (*inherited, *layers):
            os.set_inheritable(descriptor, True)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # nobody reads what it says later
        os.execve(path, [PROGRAM, "-f", "-o", options, f"/dev/fd/{device}"], {"PATH": os.defpath})
