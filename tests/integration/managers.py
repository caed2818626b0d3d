"""A service manager of a user's (systemd --user), a real one, and control groups that root gives a user."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .support import ROOT_RUN, Account, Result, Tool, ended, ran, wait_for

_MANAGER = Path("/usr/lib/systemd/systemd")
_GROUPS = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
# The manager only starts where systemd has booted the system, which the directory stands for.
_BOOT = """
for group; do echo $$ > "$group/cgroup.procs"; done
mkdir -p /run/systemd; mount -t tmpfs none /run/systemd; mkdir /run/systemd/system
"""


@dataclass(frozen=True)
class Manager:
    """The user's service manager."""

    tool: Tool
    process: subprocess.Popen[bytes]
    runtime: Path

    def run(self, *command: str, stdin: str = "") -> Result:
        """A command where the manager can be seen, as its user."""
        account = self.tool.account
        variables = {**self.tool.variables(), "XDG_RUNTIME_DIR": str(self.runtime)}
        return ran([*_as(account.uid, account.gid, self.process.pid), *command], stdin, env=variables)

    def systemctl(self, *words: str) -> Result:
        return self.run("/usr/bin/systemctl", "--user", "--no-pager", *words)


def _as(uid: int, gid: int, pid: int) -> list[str]:
    return [
        *("nsenter", "--target", str(pid), "--mount", "--"),
        *("setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups"),
    ]


def _start(tool: Tool, runtime: Path, groups: list[Path]) -> subprocess.Popen[bytes]:
    account = tool.account
    become = f"exec setpriv --reuid {account.uid} --regid {account.gid} --clear-groups {_MANAGER} --user"
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", f"{_BOOT}{become}", "sh", *map(str, groups)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**tool.variables(), "XDG_RUNTIME_DIR": str(runtime)},
    )


@contextmanager
def running_manager(tool: Tool) -> Iterator[Manager]:
    """A manager of the tool's user."""
    if not os.path.isdir("/run/systemd") or not _MANAGER.exists():
        pytest.skip("there is no systemd here")
    tops = [Path(group) for group in _GROUPS if Path(group, "cgroup.procs").exists()]
    with ExitStack() as stack:
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        os.chown(runtime, tool.account.uid, tool.account.gid)
        groups = [stack.enter_context(given_group(tool.account, top)) for top in tops]
        process = _start(tool, runtime, groups)
        stack.callback(ended, process)
        stack.callback(process.terminate)
        wait_for((runtime / "systemd" / "private").exists)
        yield Manager(tool, process, runtime)


@contextmanager
def given_group(account: Account, top: Path) -> Iterator[Path]:
    """A control group below another one that root gives a user."""
    if not ROOT_RUN:
        pytest.skip("only root can give a user control groups")
    group = top / f"sysenv-test-{os.getpid()}"
    group.mkdir()
    try:
        for path in (group, group / "cgroup.procs", *group.glob("cgroup.subtree_control")):
            os.chown(path, account.uid, account.gid)
        yield group
    finally:
        if (group / "cgroup.kill").exists() and (group / "cgroup.events").exists():  # of version 2
            (group / "cgroup.kill").write_text("1")  # what a failed test has left
            wait_for(lambda: "populated 0" in (group / "cgroup.events").read_text())
        _remove_groups(group)


def _remove_groups(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        os.rmdir(directory)
