"""The survey and the mirror together: what a host tree looks like in the base."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from sysenv_ns import policy
from sysenv_ns.host import layout
from sysenv_ns.host.index import Index
from sysenv_ns.host.signs import signature
from sysenv_ns.host.walk import Walk
from sysenv_ns.kernel import idmap
from sysenv_ns.kernel.idmap import Extent
from sysenv_ns.lower import builder

from .samples import SINGLE
from .trees import Mirror, tree

LARGE = b"0123456789" * 1000  # more than a block, so it becomes a stub
HUGE = b"x" * (1 << 20) + b"end"
TIME = 1_600_000_000_123_456_789
ODD_NAMES = [b"new\nline", b"not-utf8-\xff\xfe", "caf\u00e9".encode(), b" ", b"\\", b"-rf", b"x" * 255]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def state(path: Path) -> dict[bytes, tuple[int, int, int, int]]:
    """Type with mode, size (of files), time and link count (of files) of everything below `path`."""
    found = {}
    root = os.fsencode(path)
    for directory, directories, files in os.walk(root):
        for name in (b"", *directories, *files):
            status = os.lstat(os.path.join(directory, name))
            is_directory = stat.S_ISDIR(status.st_mode)
            facts = (0, 0) if is_directory else (status.st_size, status.st_nlink)
            found[os.path.relpath(os.path.join(directory, name), root)] = (status.st_mode, *facts, status.st_mtime_ns)
    return found


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.overlay.")}


def test_a_mirror_has_the_same_names_modes_sizes_and_times(source: Path, target: Path) -> None:
    for name, mode in (("a", 0o700), ("a/b", 0o1777), ("a/b/c", 0o2755), ("d", 0o755)):
        (source / name).mkdir()
        (source / name).chmod(mode)
    for name, mode in (("a/small", 0o600), ("a/b/setuid", 0o4755), ("a/b/readonly", 0o444), ("d/large", 0o644)):
        (source / name).write_bytes(LARGE if name == "d/large" else name.encode())
        (source / name).chmod(mode)
    (source / "d" / "link").symlink_to("../a/nowhere")
    os.mkfifo(source / "d" / "fifo", 0o622)
    for path in (*source.rglob("*"), source):
        os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
    expected = state(source)
    written = Mirror(tree(source)).write(target)
    assert state(written) == expected
    assert os.readlink(written / "d" / "link") == "../a/nowhere"
    assert (written / "a" / "small").read_bytes() == b"a/small"


def test_large_files_are_stubs_of_a_data_root(source: Path, target: Path) -> None:
    (source / "sub").mkdir()
    (source / "sub" / "large").write_bytes(LARGE)
    mirror = Mirror(tree(source))
    stub = mirror.write(target) / "sub" / "large"
    assert attributes(stub) == {"user.overlay.metacopy": b"", "user.overlay.redirect": b"/sub/large"}
    assert stub.stat().st_size == len(LARGE)
    assert stub.stat().st_blocks * 512 < len(LARGE)
    assert mirror.index.roots == [str(source)]
    assert mirror.index.stubs == {
        str(source / "sub" / "large"): signature((source / "sub" / "large").stat()),
    }


@pytest.mark.parametrize("length", [3, 100, 3 << 20])
def test_a_file_that_is_replaced_meanwhile_is_not_cut(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """It has one content or the other; that it is another one shows at the next start."""
    file, real = source / "file", os.open
    file.write_bytes(b"before")

    def late(path: str, flags: int, *more: int) -> int:
        if path == str(file):
            (source.parent / "new").write_bytes(b"x" * length)
            (source.parent / "new").rename(file)
        return real(path, flags, *more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", late)
        mirror = Mirror(tree(source))
    assert (mirror.write(target) / "file").read_bytes() == b"x" * length


@pytest.mark.parametrize("content", [b"", b"small", LARGE, HUGE], ids=["empty", "small", "large", "huge"])
def test_files_are_copied_where_no_data_root_is_allowed(source: Path, target: Path, content: bytes) -> None:
    (source / "file").write_bytes(content)
    mirror = Mirror(tree(source, stubs=False))
    copy = mirror.write(target) / "file"
    assert copy.read_bytes() == content
    assert attributes(copy) == {}
    assert (mirror.index.roots, mirror.index.stubs) == ([], {})


@pytest.mark.parametrize(
    ("length", "size", "is_stub"), [(56, 1, True), (57, 1, False), (57, 4097, True), (1, 0, False)]
)
def test_small_files_are_stubs_where_they_are_seldom_read_and_it_takes_no_block(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, length: int, size: int, is_stub: bool
) -> None:
    """`length` is that of the redirect."""
    monkeypatch.setattr(policy, "SELDOM_READ", (str(source / "share"),))
    name = "x" * (length - len("/share/")) if length > 7 else "x"
    (source / "share").mkdir()
    (source / "lib").mkdir()
    for directory in ("share", "lib"):
        (source / directory / name).write_bytes(bytes(size))
    mirror = Mirror(tree(source))
    written = mirror.write(target)
    assert bool(attributes(written / "share" / name)) == is_stub
    assert (str(source / "share" / name) in mirror.index.stubs) == is_stub
    assert bool(attributes(written / "lib" / name)) == (size > policy.BLOCK)


@pytest.mark.parametrize("length", [2, 56])
def test_short_redirects_are_in_the_inode(source: Path, target: Path, length: int) -> None:
    """On ext4: the block that each stub then has holds the same in all of them, and they share it."""
    for letter in "ab":
        (source / (letter * (length - 1))).write_bytes(LARGE)
    written = Mirror(tree(source)).write(target)
    orders = {tuple(os.listxattr(written / (letter * (length - 1)))) for letter in "ab"}
    if _file_system(target) == "ext4":
        assert orders == {("user.overlay.redirect", "user.overlay.metacopy")}
    assert {name for order in orders for name in order} >= {"user.overlay.redirect", "user.overlay.metacopy"}


def _file_system(path: Path) -> str:
    return subprocess.run(
        ["findmnt", "-nvoFSTYPE", "-T", path], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_files_up_to_a_block_are_copied(source: Path, target: Path, size: int) -> None:
    (source / "file").write_bytes(b"x" * size)
    copy = Mirror(tree(source)).write(target) / "file"
    assert copy.read_bytes() == b"x" * size
    assert attributes(copy) == {}


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["copies", "stubs"])
def test_hard_links_stay_together(source: Path, target: Path, content: bytes) -> None:
    (source / "sub").mkdir()
    (source / "first").write_bytes(content)
    for name in ("second", "sub/third"):
        os.link(source / "first", source / name)
    written = Mirror(tree(source)).write(target)
    inodes = {(written / name).stat().st_ino for name in ("first", "second", "sub/third")}
    assert len(inodes) == 1
    assert (written / "first").stat().st_nlink == 3


def test_locks_of_the_host_are_left_out(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In an environment nobody would ever let go of the copy, and no package could add a user.
    (source / "group.lock").write_text("123")
    (source / "group").write_text("root:x:0:")
    monkeypatch.setattr(policy, "LEFT_OUT", frozenset({str(source / "group.lock")}))
    mirror = Mirror(tree(source)).write(target)
    assert sorted(path.name for path in mirror.iterdir() if path.name.startswith("group")) == ["group"]


def test_only_files_are_left_out(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("archives/a.deb", "archives/lock", "x.deb/file"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    monkeypatch.setattr(layout, "left_out", lambda path: path.endswith(".deb"))
    mirror = Mirror(tree(source)).write(target)
    assert {str(path.relative_to(mirror)) for path in mirror.rglob("*")} == {
        *("archives", "archives/lock", "x.deb", "x.deb/file")
    }


def test_the_root_of_the_target_changes_hands(source: Path, target: Path) -> None:
    # The directory was made by the user outside: systemd-tmpfiles does not trust a / that is not root's.
    Mirror(tree(source)).write(target)
    owner = os.geteuid()  # who is root inside
    assert target.stat().st_uid == owner


def test_sockets_are_left_out(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source)  # the name of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    mirror = Mirror(tree(source))
    assert list(mirror.write(target).iterdir()) == []
    assert mirror.index.left_out == [str(source / "socket")]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_survive(source: Path, target: Path, name: bytes) -> None:
    place = os.path.join(os.fsencode(source), name)
    os.mkdir(place)
    for content in (b"small", LARGE):
        with open(os.path.join(place, (b"%d" % len(content) + name)[:255]), "wb") as stream:
            stream.write(content)
    os.symlink(name, os.path.join(place, b"link"))
    expected = state(source)
    mirror = Mirror(tree(source))
    written = mirror.write(target)
    assert state(written) == expected
    assert os.readlink(os.path.join(os.fsencode(written), name, b"link")) == name
    (stub,) = mirror.index.stubs
    redirect = os.getxattr(str(target) + stub, "user.overlay.redirect")
    assert redirect == os.fsencode(stub.removeprefix(str(source)))


def test_stops_stay_empty(source: Path, target: Path) -> None:
    for name in ("tree", "tree/sub", "other"):
        (source / name).mkdir()
    for name in ("tree/sub/file", "tree/file", "other/file", "mounted"):
        (source / name).write_bytes(LARGE)
    (source / "tree").chmod(0o711)
    mirror = Mirror(tree(source, stops=(source / "tree", source / "mounted")))
    written = mirror.write(target)
    assert list((written / "tree").iterdir()) == []
    assert stat.S_IMODE((written / "tree").stat().st_mode) == 0o711
    assert (written / "mounted").read_bytes() == b""
    assert list(mirror.index.stubs) == [str(source / "other" / "file")]


def test_directories_below_a_setgid_one_keep_their_mode(source: Path, target: Path) -> None:
    (source / "plain").mkdir()
    source.chmod(0o2775)
    written = Mirror(tree(source)).write(target)
    assert (written / "plain").stat().st_mode == (source / "plain").stat().st_mode


def test_files_below_a_setgid_directory_keep_their_group(source: Path, target: Path) -> None:
    staff = next((group for group in (50, *os.getgroups()) if group not in (0, os.getgid())), 50)
    (source / "file").touch()
    try:
        os.chown(source, -1, staff)
        os.chown(source / "file", 0, 0)
    except PermissionError:
        pytest.skip("only root can make files of root")
    source.chmod(0o2775)
    everybody = (Extent(0, 0, 65536),)
    written = Mirror(tree(source), idmap.IdMap("full", everybody, everybody, 0, 0)).write(target)
    assert (written.stat().st_gid, (written / "file").stat().st_gid) == (staff, 0)


def test_the_way_down_to_the_tree_is_there_too(source: Path, target: Path) -> None:
    source.parent.chmod(0o711)
    mirror = Mirror(tree(source))
    written = mirror.write(target)
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o711
    assert os.listdir(written.parent) == [source.name]
    assert [batch.directory for batch in mirror.batches] == [
        str(path).lstrip("/") for path in (*reversed(source.parents), source)
    ]


def test_what_disappears_during_the_walk_is_left_out(source: Path) -> None:
    for name in ("a", "b"):
        (source / name).mkdir()
        (source / name / "file").touch()
    walk = Walk(tree(source), SINGLE, "stub", Index(()), lambda fraction: None).batches()
    seen = []
    for batch in walk:
        seen.append(batch.directory)
        if batch.directory == str(source)[1:]:
            for name in ("a", "b"):
                shutil.rmtree(source / name)
    assert seen[-1].startswith(str(source)[1:])


def test_progress_grows_to_the_end(source: Path) -> None:
    for number in range(5):
        (source / f"a{number}" / "b").mkdir(parents=True)
    progress = Mirror(tree(source)).progress
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


def test_a_tree_that_cannot_be_read_is_an_error(source: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Mirror(tree(source / "absent"))


def test_two_writers_make_the_same(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever each of them gets, and whichever is first: of directories, hard links, times and set bits."""
    monkeypatch.setattr(builder, "_PAUSE", 0.001)
    for number in range(40):
        inner = source / f"d{number % 7}" / f"e{number}" / "f"
        inner.mkdir(parents=True)
        (inner / "file").write_bytes(bytes(number * 300))
        (inner / "link").symlink_to("file")
        inner.chmod(0o2751 if number % 3 else 0o1777)
    first = source / "d0/e0/f/file"
    for number in range(1, 40, 5):
        (source / f"d{number % 7}/e{number}/further").hardlink_to(first)
    for path in (*source.rglob("*"), source):
        os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
    expected = state(source)
    id_map = idmap.single(os.getuid(), os.getgid())
    walk = Walk(tree(source), id_map, "stub", Index(()), lambda share: None)
    (tmp_path / "both").mkdir()
    builder.write_new(walk.batches(), tmp_path / "both", id_map)
    assert state(tmp_path / "both" / str(source)[1:]) == expected


@pytest.mark.parametrize("at", [0, 5, 200])
def test_a_writer_that_fails_says_why(source: Path, tmp_path: Path, at: int) -> None:
    for number in range(300):
        (source / f"d{number:03}").mkdir()
        (source / f"d{number:03}/file").write_bytes(bytes(4096))
    id_map = idmap.single(os.getuid(), os.getgid())
    walk = Walk(tree(source), id_map, "stub", Index(()), lambda share: None)
    (tmp_path / "both" / str(source)[1:] / f"d{at:03}").mkdir(parents=True)
    (tmp_path / "both" / str(source)[1:] / f"d{at:03}/file").mkdir()
    with pytest.raises(FileExistsError):
        builder.write_new(walk.batches(), tmp_path / "both", id_map)
    tasks = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert "sysenv-ns-base\n" not in {Path(f"/proc/{pid}/comm").read_text() for pid in tasks}
