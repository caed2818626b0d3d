"""What comes back from a child."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import BinaryIO

import pytest

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import children, syscalls


def test_an_error_of_a_call_on_a_descriptor_comes_back() -> None:
    def fail() -> None:
        os.setxattr(os.open("/proc/self/status", os.O_RDONLY), "user.test", b"")

    with pytest.raises(OSError, match="descriptor") as raised:
        children.run(fail, "test-child")
    assert raised.value.errno in (errno.ENOTSUP, errno.EPERM, errno.EACCES)


@pytest.mark.parametrize("library", [True, False])
def test_process_settings_with_and_without_python_prctl(library: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if library:
        pytest.importorskip("_prctl")
    else:
        monkeypatch.setattr(syscalls, "_prctl", None)

    def inside() -> tuple[str, int, int]:
        children.forbid_tracing()
        # What is not dumpable belongs to root, proc(5); root's own tells by the flag alone.
        return Path("/proc/self/comm").read_text(), _flag(3), _flag(2)

    name = "a name that is much too long"
    assert children.call(inside, tuple[str, int, int], name) == (f"{name[:15]}\n", 0, signal.SIGKILL)


def _flag(option: int) -> int:
    """What prctl(2) gives for PR_GET_DUMPABLE (3) or PR_GET_PDEATHSIG (2)."""
    import ctypes

    found = ctypes.c_int()
    result = int(ctypes.CDLL(None).prctl(option, ctypes.byref(found), 0, 0, 0))
    return found.value if option == 2 else result


def test_a_refused_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "_prctl", None)
    with pytest.raises(OSError, match="prctl"):
        syscalls.prctl(-1, 0)


def test_an_answer_of_another_type_is_refused() -> None:
    with pytest.raises(SysenvError, match="unexpected answer from a helper process"):
        children.call(lambda: "text", int, "test-child")  # type: ignore[arg-type, return-value]


def test_a_child_reads_what_is_written_here() -> None:
    def feed(stream: BinaryIO) -> None:
        for _ in range(100):
            stream.write(bytes(10_000))

    assert children.fed(lambda stream: len(stream.read()), int, "test-child", feed) == 1_000_000


def test_a_child_writes_what_is_read_here() -> None:
    written, read = children.drained(
        lambda stream: stream.write(bytes(1_000_000)), int, "test-child", lambda stream: len(stream.read())
    )
    assert written == read == 1_000_000


def test_a_child_that_does_not_read_on_says_why() -> None:
    def refuse(stream: BinaryIO) -> None:
        raise SysenvError(f"it is {stream.read(2)!r}")

    def feed(stream: BinaryIO) -> None:
        for _ in range(1000):
            stream.write(b"no" * 10_000)

    with pytest.raises(SysenvError, match="it is b'no'"):
        children.fed(refuse, type(None), "test-child", feed)


def test_what_fails_here_is_told_and_ends_the_child() -> None:
    def fail(stream: BinaryIO) -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        children.fed(lambda stream: len(stream.read()), int, "test-child", fail)
    with pytest.raises(ValueError, match="here"):
        children.drained(lambda stream: stream.write(bytes(1 << 24)), int, "test-child", fail)
    tasks = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert "test-child\n" not in {Path(f"/proc/{pid}/comm").read_text() for pid in tasks}


@pytest.mark.parametrize("ignored", [True, False])
@pytest.mark.parametrize(("script", "said"), [("echo why; exit 3", "why"), ("exit 0", None)])
def test_what_a_program_complains_of(script: str, said: str | None, ignored: bool) -> None:
    """Also for who ignores SIGCHLD, as some servers do: nobody learns a status then."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        assert children.complaint("/bin/sh", ["sh", "-c", script], {}) == said
    finally:
        signal.signal(signal.SIGCHLD, before)
