"""The driver fuse: fuse-overlayfs serves the overlay, for kernels that allow users none.

The host's own / is the lowest layer; the base holds only what cannot be taken from there.

fuse-overlayfs gets a descriptor of an existing mount (libfuse: a mount point /dev/fd/N), so that it
runs in a mount namespace of its own with the host's files, and does not depend on the environment's /.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn

from sysenv_ns.drivers.layered import Layered
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files.locks import file_lock
from sysenv_ns.kernel import children, remedies, syscalls
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.kernel.overlay import UnionMount
from sysenv_ns.lower.base import BaseLayer
from sysenv_ns.records import dataclass

DEVICE = "/dev/fuse"
PROGRAM = "fuse-overlayfs"

_STANDARD = (0, 1, 2)
# Seconds that the kernel goes by what it was told of a file. Without this, for ever: of a file that the host has
# changed, /etc/resolv.conf above all, it would show the new content up to the old size. Asking takes 60 us. Nor does it
# ask for the size of a file whose writes it collects.
_FRESH = "timeout=10,writeback=0"


def program() -> str:
    """The absolute path of fuse-overlayfs. Raises SysenvError when it is not installed."""
    path = find_program(PROGRAM)
    if path is None:
        raise SysenvError(f"{PROGRAM} is not installed", f"install it: sudo apt-get install {PROGRAM}")
    return path


def _open_device() -> int:
    """A new connection to the kernel. Raises SysenvError."""
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise SysenvError(f"opening {DEVICE} failed: {reason(error)}", remedies.fuse_device(error)) from error


@dataclass(frozen=True)
class FuseOverlay(UnionMount):
    """A mount that fuse-overlayfs serves, of directories that all belong to root."""

    def describe(self) -> str:
        """One line for -v and for tests."""
        return f"{PROGRAM} {self.target} lower={':'.join(self.lowers)} upper={self.upper}"

    def prepare(self) -> int:
        """Start the server, and return a detached mount of what it serves. Raises OSError, SysenvError."""
        path = program()
        # The last session's server may still be writing: it holds the lock until it has ended.
        with file_lock(Path(f"{self.upper}.lock")) as lock:
            device = _open_device()
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
                said = stream.read().strip() or "no error message"
            raise SysenvError(f"{PROGRAM} failed: {said}", "see `sysenv-ns doctor`") from None
        os.close(errors)
        return mount

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
        """Become the server; it ends when the last mount that it serves is gone."""
        syscalls.unshare(syscalls.CLONE_NEWNS)
        # By descriptors: in a path, a comma or a colon would have to be escaped.
        layers = [os.open(name, os.O_PATH | os.O_DIRECTORY) for name in (*self.lowers, self.upper, self.work)]
        *lowers, upper, work = (f"/proc/self/fd/{descriptor}" for descriptor in layers)
        options = f"lowerdir={':'.join(lowers)},upperdir={upper},workdir={work},squash_to_root,noacl,{_FRESH}"
        for target, source in zip(_STANDARD, (os.open(os.devnull, os.O_RDWR), errors, errors), strict=True):
            os.dup2(source, target)
        children.leave_session({*_STANDARD, *inherited, *layers}, PROGRAM)
        for descriptor in (*inherited, *layers):
            os.set_inheritable(descriptor, True)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # nobody reads what it says later
        os.execve(path, [PROGRAM, "-f", "-o", options, f"/dev/fd/{device}"], {"PATH": os.defpath})


class FuseDriver(Layered):
    """FUSE in a user namespace (Linux 4.18), with all files shown as root's."""

    name = "fuse"
    data = "host"
    needs = "Linux 4.18 or later with FUSE"

    def overlay(self, environment: Environment, layers: tuple[BaseLayer, ...]) -> UnionMount:
        """See Layered."""
        return FuseOverlay(
            "/",
            environment.source,
            lowers=(*map(str, environment.uppers()[1:]), *(str(layer.tree) for layer in layers), "/"),
            upper=str(environment.upper),
            work=str(environment.work),
        )

    def require(self, store: Store) -> None:
        """See Driver."""
        program()
        os.close(_open_device())

    def probe(self, path: Path) -> None:
        """See Driver."""
        from sysenv_ns.drivers import probe

        lowers = (str(path / "lower"), "/")
        probe.use(FuseOverlay("/", probe.SOURCE, lowers, str(path / "upper"), str(path / "work")), path)


DRIVER = FuseDriver()
