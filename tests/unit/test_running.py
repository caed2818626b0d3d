"""Running environments: the state file, whole and damaged, and what /proc says about processes."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sysenv_ns import running
from sysenv_ns.running import State
from sysenv_ns.store import Store

from .samples import add_environment

WHOLE = {"pid": 12, "start_time": 34, "namespace": 56, "layers": ["top-1", "stubs-2"]}
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
    assert running.read_state(tmp_path) == State(12, 34, 56, ("top-1", "stubs-2"))


def test_state_is_read_as_it_was_recorded(store: Store) -> None:
    environment = add_environment(store, "proj")
    signs = {"/usr/bin": [1, 0, 2], "/lib/apk/db/installed": None}
    running.record(environment, ("stubs-1",), signs)
    state = running.read_state(environment.path)
    namespace = os.stat("/proc/self/ns/mnt").st_ino
    assert state == State(os.getpid(), running._start_time(os.getpid()) or 0, namespace, ("stubs-1",), signs)
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
    assert running.read_state(tmp_path) is None


def test_no_state_is_none(tmp_path: Path) -> None:
    assert running.read_state(tmp_path) is None
    (tmp_path / "state.json").mkdir()
    assert running.read_state(tmp_path) is None


def test_a_process_outside_is_not_in_the_environment(store: Store) -> None:
    environment = add_environment(store, "proj")
    assert running.find(environment) is None
    running.record(environment, (), {})  # this process, but not in the environment's root
    assert running.find(environment) is None
    assert environment.source not in running.processes(store)


def test_start_time() -> None:
    own = running._start_time(os.getpid())
    assert own is not None
    assert own == running._start_time(os.getpid())
    assert own >= (running._start_time(1) or 0)


@pytest.mark.parametrize("name", [b"plain", b"a) S 1 (b", b"\xff\xfe", b") "])
def test_a_zombie_has_no_start_time_but_a_name(name: bytes) -> None:
    with zombie(name) as pid:
        assert running._start_time(pid) is None
        assert running._command(pid).strip() == name.decode(errors="replace").strip()
    assert running._start_time(pid) is None
    assert running._command(pid) == ""


def test_the_command_of_this_process() -> None:
    command = running._command(os.getpid())
    assert "\0" not in command
    assert Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode() in command


def test_the_namespace_of_a_process() -> None:
    assert running._namespace(os.getpid()) == os.stat("/proc/self/ns/mnt").st_ino
    assert running._namespace(1 << 30) is None
