"""Images: headers, the compressed stream, the archive, and what goes into them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.archive import tarball
from sysenv_ns.errors import SysenvError
from sysenv_ns.files.marks import OF_USERS
from sysenv_ns.files.upper import Upper
from sysenv_ns.host.base_files import Addition
from sysenv_ns.oci import archive, contents, deflate, description, frames, layer, layering
from sysenv_ns.oci.archive import Archive
from sysenv_ns.oci.contents import ImageRules
from sysenv_ns.oci.layer import Item
from sysenv_ns.oci.members import ImageWalk

from .samples import host

_RULES = ImageRules(frozenset({"/tmp"}), {"/etc/added": b"added"})


@given(st.integers(0, 2**50), st.sampled_from([hashlib.sha256(b"").hexdigest(), ""]))
def test_room_for_a_size_and_a_digest_that_nobody_knows_yet(size: int, digest: str) -> None:
    file = io.BytesIO()
    stream = archive.Stream(file)
    assert file.tell() == 3 * 512
    assert len(archive.reserved(archive.Blob(digest, size))) == 3 * 512
    assert stream.finish().digest == f"sha256:{hashlib.sha256(b'').hexdigest()}"


@pytest.mark.parametrize("size", [0, 1, deflate.BLOCK, 5 * deflate.BLOCK + 7])
def test_the_stream_is_one_file_of_gzip(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (b"".join(b"%d " % number for number in range(900_000)) * 2)[:size]
    streams = []
    for workers in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, workers=workers: set(range(workers)))
        found: list[bytes] = []
        stream = deflate.Gzip(found.append)
        for begin in range(0, size, deflate.BLOCK):
            stream.add(data[begin : begin + deflate.BLOCK])
        stream.finish()
        stream.close()
        streams.append(b"".join(found))
    assert streams[0] == streams[1]
    assert gzip.decompress(streams[0]) == data
    assert len(streams[0]) < 100 + size // 2


def test_what_is_in_an_archive_has_the_name_of_its_digest() -> None:
    file = io.BytesIO()
    archive = Archive(file)

    def fill(write: Callable[[bytes], object]) -> None:
        for piece in (b"one", b"two" * 1000):
            write(piece)

    written = archive.write(fill)
    small = archive.add(b"{}")
    archive.finish({}, "localhost/proj", small, [written])
    content = b"one" + b"two" * 1000
    assert (written.digest, written.size) == (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
    assert (small.digest, small.size) == (f"sha256:{hashlib.sha256(b'{}').hexdigest()}", 2)
    with tarfile.open(fileobj=io.BytesIO(file.getvalue()), mode="r:") as opened:
        found = {member.name: opened.extractfile(member) for member in opened if member.isfile()}
        assert found.keys() == {"oci-layout", written.name, small.name, "index.json", "manifest.json"}
        stream_ = found[written.name]
        assert stream_ is not None
        assert stream_.read() == content


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("proj", "proj"),
        ("My.Proj", "my.proj"),
        ("_a__b-", "a__b"),
        ("a._b...c---d", "a-b-c---d"),
        ("___", "environment"),
    ],
)
def test_the_name_of_an_image(name: str, words: str) -> None:
    assert description.reference(name) == f"localhost/{words}:latest"


def test_the_time_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert description.timestamp(86400) == "1970-01-02T00:00:00Z"
    assert description.timestamp(10**15) == "9999-12-31T23:59:59Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert description.timestamp(86400) == "1970-01-01T00:00:01Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert description.timestamp(86400) == "1970-01-02T00:00:00Z"


def test_the_platform_is_that_of_programs() -> None:
    little, big = b"\x7fELF\x02\x01", b"\x7fELF\x02\x02"
    assert description.platform_of(little.ljust(18, b"\0") + b"\x3e\0") == {"architecture": "amd64", "os": "linux"}
    arm = {"architecture": "arm64", "os": "linux", "variant": "v8"}
    assert description.platform_of(little.ljust(18, b"\0") + b"\xb7\0") == arm
    assert description.platform_of(big.ljust(18, b"\0") + b"\0\x16")["architecture"] == "s390x"
    assert description.current_platform()["os"] == "linux"


def test_rules() -> None:
    rules = contents.of_environment(host(), [Addition("usr/sbin/policy-rc.d", 0o755), Addition("etc/x", 0o644, "x")])
    assert {"/home", "/proc", "/run", "/tmp", "/var/tmp"} <= rules.hollow
    assert rules.additions == {"/etc/x": b"x"}
    for mode in (stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        assert rules.is_absent("/opt/x", mode, of_host=False)
    assert not rules.is_absent("/opt/x", stat.S_IFIFO, of_host=True)
    assert rules.is_absent("/var/lib/dbus/machine-id", stat.S_IFREG, of_host=True)
    assert not rules.is_absent("/var/lib/dbus/machine-id", stat.S_IFLNK, of_host=True)
    for path in ("/var/cache/apt/archives/x.deb", "/var/cache/apt/pkgcache.bin", "/etc/passwd.lock"):
        assert rules.is_absent(path, stat.S_IFREG, of_host=True)
        assert not rules.is_absent(path, stat.S_IFREG, of_host=False)
    assert not rules.is_absent("/var/cache/apt/archives", stat.S_IFDIR, of_host=True)
    assert rules.is_empty("/etc/machine-id", of_host=False)
    assert (rules.is_empty("/var/log/a", of_host=True), rules.is_empty("/var/log/a", of_host=False)) == (True, False)


def test_what_everybody_may_see() -> None:
    modes = [
        stat.S_IFREG | 0o604,
        stat.S_IFREG | 0o640,
        stat.S_IFDIR | 0o755,
        stat.S_IFDIR | 0o711,
        stat.S_IFDIR | 0o754,
    ]
    assert [contents.is_open(mode) for mode in modes] == [True, False, True, False, False]
    names = ["user.x", "user.overlay.opaque", "security.capability", "security.selinux", "trusted.x", "user.a=b"]
    assert [name for name in names if contents.is_wanted(name)] == ["user.x", "security.capability"]


def test_a_walk(tmp_path: Path) -> None:
    """In the order of the bytes of the names; hollow directories are empty, whiteouts' names are told."""
    root = tmp_path / "root"
    for path in ("tmp/x", "etc/b/c", "etc/added", "opt/.wh.x", "opt/a", "opt/a.b", "opt/\udcff", "opt/\u00e9"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("added" if path == "etc/added" else "mine")
    (root / "opt/link").symlink_to("a")
    os.link(root / "opt/a", root / "opt/z")
    walk = ImageWalk(str(root), Upper([("", str(root))], OF_USERS), _RULES)
    assert [member.path for member in walk.members()] == [
        *("/etc", "/etc/b", "/etc/b/c", "/opt", "/opt/a", "/opt/a.b", "/opt/link", "/opt/z", "/opt/\u00e9"),
        *("/opt/\udcff", "/tmp"),
    ]
    assert walk.report.left_out == ["/opt/.wh.x"]
    ((title, items),) = [(found.title, found.items) for found in layering.single(walk, "proj")]
    stream = io.BytesIO()
    layer.write(items, stream)
    assert title == "proj"
    assert layer.size(items) <= len(stream.getvalue())
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue()), mode="r:") as archive:
        members = {member.name: member for member in archive}
    assert (members["opt/z"].islnk(), members["opt/z"].linkname) == (True, "opt/a")
    assert members["tmp"].mtime == 0


def test_a_file_that_changes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("longer")
    walk = ImageWalk(str(tmp_path), Upper([("", str(tmp_path))], OF_USERS), _RULES)
    ((item,),) = [found.items for found in layering.single(walk, "proj")]
    for text in ("short", "longer than before"):
        (tmp_path / "file").write_text(text)
        with pytest.raises(SysenvError, match="changed"):
            layer.copy(item, io.BytesIO())


def test_streams_in_one_pipe() -> None:
    pipe = io.BytesIO()
    contents = [b"", b"abc", b"abcd" * 2, b"abcd" * 2 + b"e"]
    for content in contents:
        stream = frames.FrameWriter(pipe, 4)
        for begin in range(0, len(content), 3):
            stream.write(content[begin : begin + 3])
        stream.finish()
    whole = pipe.getvalue()
    pipe.seek(0)
    assert [list(frames.blocks(pipe)) for _ in contents] == [
        *([], [b"abc"], [b"abcd", b"abcd"], [b"abcd", b"abcd", b"e"]),
    ]
    with pytest.raises(EOFError):
        list(frames.blocks(pipe))
    with pytest.raises(EOFError):
        list(frames.blocks(io.BytesIO(whole[4:9])))


def test_units_are_source_packages_and_directories() -> None:
    assert layering.unit("/usr/bin/cc", "gcc-12") == "gcc-12"
    paths = ["/usr/local/go/bin/go", "/usr/local/x", "/etc/passwd", "/x"]
    assert [layering.unit(path, None) for path in paths] == ["/usr/local/go", "/usr/local", "/etc", "/"]


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 100), max_size=60), st.text(min_size=1))
def test_one_unit_more_or_less_changes_two_layers_at_most(sizes: dict[str, int], name: str) -> None:
    layers = layering.names_of_layers(sizes)
    assert layers.keys() == sizes.keys()
    assert len(set(layers.values())) <= layering.LARGE + layering.SHARED + 1
    more = layering.names_of_layers(sizes | {name: 50})
    if name not in sizes:
        changed = {*more.items()} ^ {*layers.items()}
        assert len({unit for unit, _ in changed}) <= 2


def test_what_changes_most_often_is_apart() -> None:
    sizes = {f"package-{number}": 10 for number in range(layering.LARGE)} | {
        "/etc": 1,
        "/var/lib/apt": 1,
        "/usr/lib/x": 1,
    }
    layers = layering.names_of_layers(sizes)
    assert layers["/etc"] == layers["/var/lib/apt"] == "state of the host" != layers["/usr/lib/x"]


def _item(path: str, kind: tarball.Kind = "file", size: int = 1, target: str = "") -> Item:
    return Item(tarball.Member(path[1:].encode(), kind, size=size, target=target[1:].encode()), path)


def test_the_host_in_layers() -> None:
    """Directories are in the last one; all names of a file are in that of its first one, before its others."""
    rows = [_item("/usr", "directory"), _item("/usr/a", size=9), _item("/usr/b", "link", 0, "/usr/a"), _item("/usr/c")]
    items = {row.place: row for row in rows}
    sources = {"/usr/a": "one", "/usr/b": "two", "/usr/c": "two"}
    found = {found.title: [item.place for item in found.items] for found in layering.of_host(items, sources)}
    assert found == {"one": ["/usr/a", "/usr/b"], "two": ["/usr/c"], "directories": ["/usr"]}


def test_changes_above_the_host(tmp_path: Path) -> None:
    """Whiteouts for what is gone, but not below what is gone or replaced; directories of changes are always there."""
    host, root, upper = (tmp_path / name for name in ("host", "root", "upper"))
    for path in ("usr/same", "usr/gone", "opt/x", "srv/deep/y", "etc/z", "var/w"):
        (host / path).parent.mkdir(parents=True, exist_ok=True)
        (host / path).write_text("host")
    shutil.copytree(host, root)
    for tree in (host, root):
        for place in (tree, *tree.rglob("*")):
            os.utime(place, (1, 1))
    for gone in ("usr/gone", "var/w"):
        (root / gone).unlink()
    for gone in ("opt", "srv"):
        shutil.rmtree(root / gone)
    (root / "opt").write_text("a file instead of a directory")
    (root / "etc/new").write_text("new")
    for path in ("usr", "opt", "etc", "etc/new", "var"):
        (upper / path).parent.mkdir(parents=True, exist_ok=True)
        (upper / path).mkdir() if (root / path).is_dir() else (upper / path).write_text("")
    rules = ImageRules(frozenset(), {})
    below_changes = ImageWalk(str(host), Upper((), OF_USERS), rules)
    whole = ImageWalk(str(root), Upper([("", str(upper))], OF_USERS), rules)
    *below, top = layering.layered(below_changes, whole, "proj")
    assert [item.header.name.decode() for item in top.items] == [
        *("etc", "etc/new", "opt", "usr", "var", ".wh.srv", "usr/.wh.gone", "var/.wh.w"),
    ]
    assert {item.header.name.decode() for layer in below for item in layer.items} == {
        str(path.relative_to(host)) for path in host.rglob("*")
    }
