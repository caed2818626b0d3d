"""files/reader.py: what is no regular file, is too long, or does not lie below its root is not read."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sysenv_ns.files import reader
from sysenv_ns.files.reader import Root
from sysenv_ns.kernel import syscalls

_SECRET = b"PRIVATE KEY"


@pytest.fixture(params=["openat2", "openat"])
def tree(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that belongs to another user beside a secret; on a kernel with and on one without openat2(2)."""
    if request.param == "openat":

        def missing(*_: object) -> int:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(syscalls, "openat2", missing)
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "secret").write_bytes(_SECRET)
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_bytes(b"content")
    yield top
    assert len(os.listdir("/proc/self/fd")) == before


def _refusal(call: Callable[[], object]) -> OSError:
    """The error of a call."""
    try:
        call()
    except OSError as error:
        return error
    pytest.fail("it was not refused")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 10 << 30)


_KINDS: dict[str, tuple[Callable[[Path], object], tuple[int, ...]]] = {
    "fifo": (os.mkfifo, (errno.EINVAL,)),
    "socket": (_socket, (errno.ENXIO, errno.EINVAL)),
    "directory": (Path.mkdir, (errno.EISDIR,)),
    "sparse": (_sparse, (errno.EFBIG,)),
    "zero": (lambda path: path.symlink_to("/dev/zero"), (errno.ELOOP,)),
    "link": (lambda path: path.symlink_to("secret"), (errno.ELOOP,)),
    "nothing": (lambda path: None, (errno.ENOENT,)),
}


@pytest.mark.parametrize("kind", _KINDS)
def test_what_is_no_file_is_refused_with_its_path(tree: Path, kind: str) -> None:
    make, numbers = _KINDS[kind]
    make(tree / "a" / "it")
    with Root(tree) as root:
        for error in (_refusal(lambda: root.read("/a/it")), _refusal(lambda: reader.read(tree / "a" / "it"))):
            assert error.errno in numbers
            assert error.filename == str(tree / "a" / "it")


def test_a_followed_link_to_a_device_is_no_file_either(tree: Path) -> None:
    (tree / "zero").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="not a regular file"):
        reader.read(tree / "zero", follow=True)


def test_files_are_read_whole_up_to_the_limit(tree: Path) -> None:
    assert reader.read(tree / "a" / "b" / "file", 7) == b"content"
    with Root(tree) as root, root.stream("a/b/file") as stream:
        assert (root.read("a/b/file"), stream.read(3), root.names("/a")) == (b"content", b"con", ["b"])
    with pytest.raises(OSError, match="more than 6 bytes"):
        reader.read(tree / "a" / "b" / "file", 6)


def test_a_file_that_grows_while_it_is_read_ends_at_the_limit(tree: Path) -> None:
    path = tree / "growing"
    path.write_bytes(b"x")
    descriptor = reader.open_file(path)
    with path.open("ab") as stream:
        stream.write(b"x" * 100)
    assert sum(map(len, reader.content(descriptor, 10))) == 10
    os.close(descriptor)


@pytest.mark.parametrize("name", ["link/secret", "link", "a/up", "absolute", "proc/self/root/etc/passwd", "../secret"])
@pytest.mark.parametrize("links", ["refused", "beneath", "inside"])
def test_nothing_leads_out_of_a_root(tree: Path, name: str, links: reader.Links) -> None:
    (tree / "link").symlink_to("..")
    (tree / "a" / "up").symlink_to("../../secret")
    (tree / "absolute").symlink_to(tree.parent / "secret")
    (tree / "proc").symlink_to("/proc")
    with Root(tree, links) as root:
        error = _refusal(lambda: root.read(name))
    # In a root of one's own .. of the top is the top.
    assert reader.is_missing(error) or (error.errno == errno.EISDIR and name == "link")


def test_links_are_followed_as_they_are_seen_inside(tree: Path) -> None:
    (tree / "absolute").symlink_to("/a/b")
    (tree / "relative").symlink_to("./a/../a/b")
    (tree / "chain").symlink_to("relative/../b/file")
    (tree / "loop").symlink_to("loop")
    with Root(tree, "inside") as root:
        assert root.read("absolute/file") == root.read("/relative/file") == root.read("chain") == b"content"
        assert root.link("absolute") == "/a/b"
        assert root.names("absolute") == ["file"]
        assert _refusal(lambda: root.read("loop")).errno == errno.ELOOP
    with Root(tree, "beneath") as root:
        assert root.read("relative/file") == b"content"
        assert _refusal(lambda: root.read("absolute/file")).errno == errno.EXDEV


def test_what_is_there_can_be_looked_at_without_following_it(tree: Path) -> None:
    (tree / "link").symlink_to("/nowhere")
    with Root(tree) as root:
        assert (root.has("link"), root.has("link/x"), root.has("a/b"), root.has("a/c"), root.has("")) == (
            *(True, False, True, False, True),
        )
        assert root.status("link").st_ino == os.lstat(tree / "link").st_ino
        assert _refusal(lambda: root.link("a")).errno == errno.EINVAL


def test_a_directory_that_is_exchanged_for_a_link_again_and_again_never_shows_what_is_outside(tree: Path) -> None:
    """The one who exchanges it is as fast as he can be: what is read is the file, or nothing."""
    (tree.parent / "b").mkdir()
    (tree.parent / "b" / "file").write_bytes(_SECRET)
    ended = threading.Event()

    def exchange() -> None:
        (tree / "link").symlink_to(tree.parent / "b")
        while not ended.is_set():
            syscalls.exchange(str(tree / "link"), str(tree / "a" / "b"))

    thread = threading.Thread(target=exchange, daemon=True)
    thread.start()
    seen: set[bytes | int | None] = set()
    deadline = time.monotonic() + 5
    try:
        with Root(tree) as root:
            while len(seen) < 2 and time.monotonic() < deadline:
                for _ in range(5000):
                    try:
                        seen.add(root.read("a/b/file"))
                    except OSError as error:
                        seen.add(error.errno)
    finally:
        ended.set()
        thread.join(60)
    assert seen <= {b"content", errno.ELOOP, errno.ENOTDIR}
