"""This system's podman as a test's user runs it, with all that it keeps in a directory of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .support import APT_LIMIT, Account, ran, succeeded

# What a container needs of a machine that has no session of the user, and few limits to give away.
LIMITED = (
    *("--rm", "--pull", "newer", "--network", "none", "--cgroups", "disabled"),
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
)
# crun insists on version 2 of control groups, where a machine has both.
_ENTER = 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'


@contextlib.contextmanager
def podman(account: Account, place: Path) -> Iterator[Callable[..., str]]:
    """What runs podman and returns its output; it must succeed. Its images are deleted in the end."""
    images = Path(tempfile.mkdtemp(prefix="sysenv-test-", dir="/var/tmp"))  # overlayfs wants a disk
    runtime = place / "runtime"
    runtime.mkdir(mode=0o700)
    for path in (images, runtime):
        os.chown(path, account.uid, account.gid)
    settings = place / "containers.conf"
    settings.write_text('[engine]\nlock_type = "file"\n')  # otherwise they lie in /dev/shm, and stay there
    variables = {
        "HOME": str(account.home),
        "USER": account.name,
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "XDG_RUNTIME_DIR": str(runtime),
        "CONTAINERS_CONF": str(settings),
        "REGISTRY_AUTH_FILE": str(account.home / ".config/containers/auth.json"),
    }
    options = ["--root", str(images), "--runroot", str(runtime / "run"), "--cgroup-manager", "cgroupfs"]
    options += ["--storage-driver", "overlay", "--events-backend", "none"]

    def run(*arguments: str) -> str:
        command = ["unshare", "--cgroup", "--mount", "sh", "-ec", _ENTER, "sh", *account.setpriv(), "podman", *options]
        result = ran([*command, *arguments], limit=APT_LIMIT, env=variables, cwd=account.home)
        return succeeded(result).stdout

    try:
        yield run
    finally:
        for path in runtime.rglob("pause.pid"):  # what holds the user namespace for the next one
            os.kill(int(path.read_text()), signal.SIGKILL)
        shutil.rmtree(images)
