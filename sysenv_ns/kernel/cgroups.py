"""Control groups (cgroups(7), version 2) that this user may divide: finds, makes and deletes them; kills nobody."""

from __future__ import annotations

import errno
import os
import time

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened, suppress
from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.mountinfo import Mount
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Sequence

PROCESSES = "cgroup.procs"
_CONTROL, _CONTROLLERS = "cgroup.subtree_control", "cgroup.controllers"
_PATIENCE = 5.0  # seconds in which a group whose processes have been killed becomes empty


def path_of(pid: int | str = "self") -> str | None:
    """The directory of a process's group; None where there is none in sight. Raises OSError for who is gone."""
    mounts = mountinfo.parse(Path("/proc/self/mountinfo").read_bytes())
    return located(Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape"), mounts)


def located(membership: str, mounts: Sequence[Mount]) -> str | None:
    """The same from the content of /proc/PID/cgroup and the mount table. Pure."""
    paths = [line[3:] for line in membership.splitlines() if line.startswith("0::/")]
    for path in paths:
        for mount in mounts:
            root = mount.root.rstrip("/")
            if mount.fstype == "cgroup2" and f"{path}/".startswith(f"{root}/"):
                return f"{mount.point}{path[len(root) :]}".rstrip("/")
    return None


def is_mine(path: str) -> bool:
    """Whether this user may make groups in one, and move processes there from groups below it."""
    with suppress(OSError):
        owned = os.stat(path).st_uid == os.geteuid()
        return owned and all(os.access(place, os.W_OK) for place in (path, f"{path}/{PROCESSES}"))
    return False


def delegated(own: str) -> str | None:
    """The uppermost of this process's group and those above it that are this user's; None if its own is not."""
    found = None
    while is_mine(own):
        found, own = own, os.path.dirname(own)
    return found


def make(name: str) -> str | None:
    """The directory of a new group; None if nobody gave this user one to divide.

    It has that name where this process's group has others too.

    A group with processes cannot give its parts memory or processor time (the controllers). So where this process is
    alone, as in the group that a service manager has made for it, it moves to a part of its own. Raises OSError.
    """
    own = path_of()
    top = delegated(own) if own is not None else None
    if own is None or top is None:
        return None
    path = f"{top}/{name}"
    if Path(f"{own}/{PROCESSES}").read_text().split() == [str(os.getpid())]:
        aside, path = f"{own}/keeper", f"{own}/init"
        with suppress(FileExistsError):
            os.mkdir(aside)
        _write(f"{aside}/{PROCESSES}", "0")
        _share(own)
    os.mkdir(path)
    return path


def _share(path: str) -> None:
    """Give the parts of a group all that it has, as far as the kernel lets it."""
    for controller in Path(f"{path}/{_CONTROLLERS}").read_text().split():
        with suppress(OSError):
            _write(f"{path}/{_CONTROL}", f"+{controller}")


def _write(path: str, text: str) -> None:
    with opened(os.open(path, os.O_WRONLY | os.O_CLOEXEC)) as descriptor:
        os.write(descriptor, text.encode())


def clear(path: str) -> None:
    """Delete all groups below one, for root of a namespace, whose they may be. Raises OSError."""
    for directory, names, _ in os.walk(path, topdown=False):
        for name in names:
            remove(f"{directory}/{name}")


def remove(path: str) -> None:
    """Delete a group without others below it, once its processes have ended. Raises OSError if they do not end."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.rmdir(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)
