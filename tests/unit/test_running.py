"""Running environments: the state file, whole and damaged, and what /proc says about processes."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sysenv_ns.environment import running
from sysenv_ns.environment import state as state_file
from sysenv_ns.environment.state import State
from sysenv_ns.environment.store import Store
from sysenv_ns.kernel import namespace, processes
from sysenv_ns.kernel.namespace import Mounts
from sysenv_ns.kernel.processes import started_at

from .samples import add_environment

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
WHOLE = {
    "pid": 12,
    "start_time": 34,
    "boot": BOOT,
    "namespace": 56,
    "user_namespace": 78,
    "layers": ["top-1", "stubs-2"],
}
PR_SET_NAME = 15


@contextmanager
def zombie(name: bytes) -> Iterator[int]:
    """A child with this name that has ended and is not waited for yet."""
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0)
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        yield pid
    finally:
        os.waitpid(pid, 0)


def test_state_is_read(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps(WHOLE))
    assert state_file.read_state(tmp_path) == State(12, 34, BOOT, 56, 78, ("top-1", "stubs-2"))


def test_state_is_read_as_it_was_recorded(store: Store) -> None:
    environment = add_environment(store, "proj")
    signs = {"/usr/bin": [1, 0, 2], "/lib/apk/db/installed": None}
    state_file.record(environment, ("stubs-1",), signs)
    state = state_file.read_state(environment.path)
    mounts, users = namespace.identity_of_own("mnt"), namespace.identity_of_own("user")
    started = started_at(os.getpid()) or 0
    assert state == State(os.getpid(), started, BOOT, mounts, users, ("stubs-1",), signs)
    assert sorted(os.listdir(environment.path)) == ["env.json", "state.json", "upper"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        bytes(50),
        b"[]",
        b"null",
        b"5",
        b'"\xff"',
        b"{}",
        *(json.dumps({k: v for k, v in WHOLE.items() if k != key}).encode() for key in WHOLE),
        json.dumps(WHOLE | {"pid": None}).encode(),
        json.dumps(WHOLE | {"pid": "twelve"}).encode(),
        json.dumps(WHOLE | {"namespace": []}).encode(),
        json.dumps(WHOLE | {"layers": None}).encode(),
        json.dumps(WHOLE | {"start_time": float("inf")}).encode(),
    ],
)
def test_a_damaged_state_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert state_file.read_state(tmp_path) is None


def test_a_state_of_an_earlier_boot_is_none(tmp_path: Path) -> None:
    """All its numbers may mean something else by now."""
    (tmp_path / "state.json").write_text(json.dumps(WHOLE | {"boot": "3f1a5b52-9f6b-4c7e-8d5e-0a3c6f0b7d11"}))
    assert state_file.read_state(tmp_path) is None


def test_no_state_is_none(tmp_path: Path) -> None:
    assert state_file.read_state(tmp_path) is None
    (tmp_path / "state.json").mkdir()
    assert state_file.read_state(tmp_path) is None


def test_a_process_outside_is_not_in_the_environment(store: Store) -> None:
    environment = add_environment(store, "proj")
    assert running.find(environment) is None
    state_file.record(environment, (), {})  # this process, but not in the environment's root
    assert running.find(environment) is None
    assert running.processes(environment) == ()


def test_start_time() -> None:
    own = started_at(os.getpid())
    assert own is not None
    assert own == started_at(os.getpid())
    assert own >= (started_at(1) or 0)


@pytest.mark.parametrize("name", [b"plain", b"a) S 1 (b", b"\xff\xfe", b") "])
def test_a_zombie_has_no_start_time_but_a_name(name: bytes) -> None:
    with zombie(name) as pid:
        assert started_at(pid) is None
        assert processes.command_of(pid).strip() == name.decode(errors="replace").strip()
    assert started_at(pid) is None
    assert processes.command_of(pid) == ""


def test_the_command_of_this_process() -> None:
    command = processes.command_of(os.getpid())
    assert "\0" not in command
    assert Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode() in command


def test_the_namespace_of_a_process() -> None:
    mounts = Mounts.of(os.getpid())
    try:
        assert mounts.kin == "own"
        assert mounts.identity == namespace.identity_of_own("mnt")
        assert mounts.user_namespace == namespace.identity_of_own("user")
        assert mounts.has(os.getpid())
        assert not mounts.has(1 << 30)
    finally:
        mounts.close()
    with pytest.raises(FileNotFoundError):
        Mounts.of(1 << 30)


@pytest.mark.parametrize(
    ("mount", "counts"),
    [
        (b"/ - overlay sysenv-ns:1 rw,lowerdir=/l", True),
        (b"/ - fuse.fuse-overlayfs sysenv-ns:1 rw,user_id=0,group_id=0,default_permissions,allow_other", True),
        # fusermount3 -o fsname=sysenv-ns:1,subtype=fuse-overlayfs, by anybody
        (b"/tmp/x shared:4 - fuse.fuse-overlayfs sysenv-ns:1 rw,user_id=1000,group_id=0", False),
        (b"/ - fuse.fuse-overlayfs sysenv-ns:1 rw,user_id=01,group_id=0", False),
        (b"/ - fuse.fuse-overlayfs sysenv-ns:1", False),
        (b"/ - fuse sysenv-ns:1 rw,user_id=0,group_id=0", False),
        (b"/ - tmpfs sysenv-ns:1 rw", False),
    ],
)
def test_what_can_be_the_root_of_an_environment(mount: bytes, counts: bool) -> None:
    point, _, rest = mount.partition(b" ")
    line = b"36 35 0:98 / " + point + b" rw,relatime " + rest + b"\n"
    assert running._sources(line) == ({"sysenv-ns:1"} if counts else set())
