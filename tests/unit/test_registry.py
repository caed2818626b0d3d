"""What is pure of push and pull: references, manifests, archives made of blobs, and the blobs in the store."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysenv_ns.archive import compression, tarball
from sysenv_ns.archive.tarball import Damaged, Member, Reader
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.oci.archive import Blob
from sysenv_ns.oci.description import PackedLayer
from sysenv_ns.registry import artifact, blobs, pull, reassembly, reference, skopeo
from sysenv_ns.registry.artifact import Artifact, LaterForm, NamedTree, NoArtifact
from sysenv_ns.registry.blobs import BlobCache, Descriptor
from sysenv_ns.registry.dictionary import Head, Piece
from sysenv_ns.registry.layer_index import LayerIndex, PushedLayer

_DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("localhost/x", ("localhost", "x", "latest", None)),
        ("localhost:5000/x:1", ("localhost:5000", "x", "1", None)),
        ("127.0.0.1:5000/a/b-c/d__e:v1.2_3", ("127.0.0.1:5000", "a/b-c/d__e", "v1.2_3", None)),
        ("[::1]:5000/x", ("[::1]:5000", "x", "latest", None)),
        (f"ghcr.io/You.Not/x@{_DIGEST}", None),
        (f"ghcr.io/you/x:t@{_DIGEST}", ("ghcr.io", "you/x", "t", _DIGEST)),
        ("you/x", None),
        ("ghcr.io", None),
        ("ghcr.io/", None),
        ("docker://ghcr.io/x", None),
        ("-v.x/y", None),
        ("ghcr.io/x:", None),
        ("ghcr.io/x:-t", None),
        ("ghcr.io/x y", None),
        ("ghcr.io/../x", None),
        ("ghcr.io/x@sha256:0", None),
        ("ghcr.io/x\n", None),
        ("ghcr.io/" + "x" * 2000, None),
    ],
)
def test_references(text: str, parts: tuple[str, str, str, str | None] | None) -> None:
    if parts is None:
        with pytest.raises(SysenvError) as caught:
            reference.parse(text)
        assert caught.value.exit_status == 2
        return
    found = reference.parse(text)
    assert (found.registry, found.repository, found.tag, found.digest) == parts
    assert str(found) == (f"{found.place}@{found.digest}" if found.digest else f"{found.place}:{found.tag}")


def _artifact() -> Artifact:
    trees = (
        NamedTree("origins/0", blobs.of_bytes(b"o")),
        NamedTree("layers/0", blobs.of_bytes(b"l")),
        NamedTree("layers/1", blobs.of_bytes(b"d"), ("layers/3", "layers/22")),
    )
    return Artifact(blobs.of_bytes(b"{}"), trees)


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert artifact.decode(_artifact().encode()) == _artifact()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("environment.v1+json", "image.config.v1+json"),
        ("tree.v1.tar+zstd", "tree.v2.tar+zstd"),
        ("layers/3 layers/22", ""),
        ("layers/3 layers/22", "layers/3  layers/22"),
        ("layers/3 layers/22", "layers/3 env.json"),
        ("layers/3 layers/22", " ".join(f"layers/{number}" for number in range(1, 40))),
        ('"layers/0"', '"layers/../x"'),
        ('"layers/0"', '"layers/00"'),
        ('"size": 1', '"size": -1'),
        ('"size": 1', '"size": "1"'),
        ("sha256:", "sha512:"),
        ("sha256:", "sha256:../"),
        ('"annotations"', '"x"'),
        ('"config"', '"manifests"'),
        ("{", "["),
    ],
)
def test_a_manifest_of_something_else(old: str, new: str) -> None:
    changed = _artifact().encode().decode().replace(old, new)
    with pytest.raises(NoArtifact):
        artifact.decode(changed.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [("tree.v2.tar+zstd", "tree.v3.tar+br"), ("environment.v1+json", "environment.v2+json"), ("v2", "\\u001b[31m")],
)
def test_a_manifest_of_a_later_version(old: str, new: str) -> None:
    """It is told from what is no environment, without what could do something to a terminal."""
    with pytest.raises(LaterForm) as caught:
        artifact.decode(_artifact().encode().decode().replace(old, new).encode())
    assert "vnd.sysenv-ns." in str(caught.value)
    assert "\033" not in str(caught.value)


def _blob(*members: tuple[Member, bytes]) -> io.BytesIO:
    parts = (tarball.encode(member) + data + tarball.padding(len(data)) for member, data in members)
    return io.BytesIO(b"".join(parts) + tarball.END)


_TOP = Member(b"tree", "directory", 0o755), b""


def _unwatched(tree: str, name: bytes, member: Member, content: Iterator[Piece]) -> Iterator[Piece]:
    return content


def test_an_archive_of_blobs() -> None:
    """Names and targets of hard links get the tree's name, those of symbolic links are left alone; holes stay."""
    sparse = Member(b"tree/s", "file", size=9000, extents=((4096, 4),))
    map_ = tarball.encode(sparse)
    first = _blob(
        _TOP,
        (Member(b"tree/f", "file", size=3, attributes={b"user.x": b"\xff"}), b"abc"),
        (Member(b"tree/h", "link", target=b"tree/f"), b""),
        (Member(b"tree/l", "symlink", target=b"tree/f"), b""),
    )
    second = io.BytesIO(_blob(_TOP).getvalue()[: -len(tarball.END)] + map_ + b"data" + tarball.padding(4) + tarball.END)
    data = b"".join(reassembly.archive(b"{}", [("layers/3", first), ("layers/0", second)], _unwatched))
    reader, found = Reader(io.BytesIO(data).read), {}
    while member := reader.next():
        checksum = reader.checksum
        found[member.name] = (member.kind, member.target, member.extents, [*reader.data()])
    assert json.loads(found.pop(b"end.json")[3][0][1]) == {"sha256": checksum}
    assert found == {
        b"sysenv-ns.json": ("file", b"", None, [(0, b"{}")]),
        b"layers/3": ("directory", b"", None, []),
        b"layers/3/f": ("file", b"", None, [(0, b"abc")]),
        b"layers/3/h": ("link", b"layers/3/f", None, []),
        b"layers/3/l": ("symlink", b"tree/f", None, []),
        b"layers/0": ("directory", b"", None, []),
        b"layers/0/s": ("file", b"", ((4096, 4),), [(4096, b"data")]),
    }


@pytest.mark.parametrize(
    "member",
    [
        Member(b"layers/1/x", "file"),
        Member(b"trees", "file"),
        Member(b"/tree/x", "file"),
        Member(b"tree/h", "link", target=b"layers/0/x"),
        Member(b"end.json", "file"),
    ],
)
def test_a_blob_with_another_name(member: Member) -> None:
    with pytest.raises(Damaged):
        b"".join(reassembly.archive(b"{}", [("layers/0", _blob(_TOP, (member, b"")))], _unwatched))


def test_a_blob_that_is_cut_off() -> None:
    with pytest.raises(Damaged):
        b"".join(reassembly.archive(b"{}", [("layers/0", io.BytesIO(_blob(_TOP).getvalue()[:600]))], _unwatched))


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    cache = BlobCache(Store(tmp_path))
    cache.prepare()
    return cache


def test_blobs_are_verified(cache: BlobCache) -> None:
    kept = cache.add(b"content")
    assert cache.has(kept)
    assert cache.read(kept, 7) == b"content"
    with pytest.raises(Damaged):
        cache.read(kept, 6)
    path = cache.path / "sha256" / kept.digest.removeprefix("sha256:")
    for other in (b"kontent", b"content and more", b""):
        path.write_bytes(other)
        with pytest.raises(Damaged):
            cache.opened(kept)
        assert not path.exists()
        assert not cache.has(kept)
    path.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic link"):
        cache.opened(kept)


def _compressed(tree: io.BytesIO, content: bytes = b"") -> bytes:
    """A blob, with a dictionary of a file x."""
    head = Head.of([b"x"], content).encode() if content else b""
    return head + compression.compressed(tree.getvalue(), content)


_OLD, _NEW = os.urandom(5000), os.urandom(10)
_LOWER = _compressed(_blob(_TOP, (Member(b"tree/x", "file", size=len(_OLD)), _OLD)))
_HIGHER_TREE = _blob(_TOP, (Member(b"tree/x", "file", size=len(_OLD + _NEW)), _OLD + _NEW))
_HIGHER = _compressed(_HIGHER_TREE, _OLD)


def _pulled(cache: BlobCache, *trees: tuple[str, bytes, tuple[str, ...]]) -> dict[bytes, bytes]:
    """The files of an archive that a pull makes of these trees."""
    named = tuple(NamedTree(name, cache.add(blob), below) for name, blob, below in trees)
    data = b"".join(piece for piece, _ in pull._pieces(Artifact(cache.add(b"{}"), named), cache))
    reader, found = Reader(io.BytesIO(data).read), {}
    while member := reader.next():
        found[member.name] = b"".join(piece for _, piece in reader.data())
    return found


def test_a_blob_with_a_dictionary(cache: BlobCache) -> None:
    assert len(_HIGHER) < 300
    found = _pulled(cache, ("layers/7", _LOWER, ()), ("layers/2", _HIGHER, ("layers/9", "layers/7")))
    assert (found[b"layers/7/x"], found[b"layers/2/x"]) == (_OLD, _OLD + _NEW)
    assert os.listdir(cache.path) == ["sha256"]


@pytest.mark.parametrize(
    "trees",
    [
        [("layers/2", _HIGHER, ("layers/7",)), ("layers/7", _LOWER, ())],  # not after what it needs
        [("layers/7", _LOWER, ()), ("layers/2", _HIGHER, ("layers/2",))],  # itself
        [("layers/7", _LOWER, ()), ("layers/2", _HIGHER, ("layers/3",))],
        [("layers/7", _LOWER, ()), ("layers/2", _LOWER, ("layers/7",))],  # without a head
        [("layers/7", _LOWER, ()), ("layers/2", _HIGHER, ())],  # what it needs is not said
        [("layers/7", _LOWER, ()), ("layers/2", _compressed(_HIGHER_TREE, _OLD[:-1]), ("layers/7",))],
        [("layers/7", _LOWER, ()), ("layers/2", _HIGHER[:-3], ("layers/7",))],
        [("layers/7", _LOWER, ()), ("layers/2", _HIGHER[:-3] + b"abc", ("layers/7",))],
    ],
)
def test_a_blob_with_a_dictionary_that_is_not_there(
    cache: BlobCache, trees: list[tuple[str, bytes, tuple[str, ...]]]
) -> None:
    with pytest.raises((Damaged, EOFError, compression.Error)):
        _pulled(cache, *trees)
    assert os.listdir(cache.path) == ["sha256"]


def test_blobs_nobody_needs_are_deleted(cache: BlobCache) -> None:
    old, young = cache.add(b"old"), cache.add(b"young")
    long_ago = time.time() - 40 * 24 * 3600
    (cache.path / "layout-x").mkdir()
    (cache.path / "new-x").touch()
    for path in (*cache.path.iterdir(), cache.path / "sha256" / old.digest.removeprefix("sha256:")):
        os.utime(path, (long_ago, long_ago))
    cache.prepare()
    assert not cache.has(old)
    assert cache.has(young)
    assert os.listdir(cache.path) == ["sha256"]


def test_a_write_that_fails_leaves_nothing(cache: BlobCache) -> None:
    def fail(_: object) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        cache.write(fail)
    assert os.listdir(cache.path) == ["sha256"]
    assert os.listdir(cache.path / "sha256") == []


def test_no_digest() -> None:
    for wrong in ("", "sha256:", f"sha256:{'0' * 63}g", f"{_DIGEST}0", f"sha256:{'../' * 21}x"):
        with pytest.raises(ValueError, match="digest"):
            Descriptor(wrong, 1)


def test_without_skopeo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skopeo, "find_program", lambda name: None)
    with pytest.raises(SysenvError, match="skopeo, which is needed for registries") as caught:
        skopeo.find(None)
    assert "package skopeo" in caught.value.hint


def test_a_program_that_fails(tmp_path: Path) -> None:
    """Its last words are the message, without what could do something to a terminal."""
    program = tmp_path / "skopeo"
    said = r'level=fatal msg="first"\nlevel=fatal msg="no space left on device \033[31m"\n'
    program.write_text(f"#!/bin/sh\nprintf '{said}' >&2; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(SysenvError) as caught:
        skopeo.Skopeo(str(program), None).manifest(reference.parse("localhost/x"))
    assert "no space left on device" in caught.value.message
    assert "\033" not in caught.value.message
    assert "first" not in caught.value.message
    assert "free some space" in caught.value.hint


def test_which_layers_of_images_are_known(store: Store) -> None:
    store.path.mkdir()
    BlobCache(store).prepare()
    index = LayerIndex(store)
    assert index.layers() == {}
    here, there = (reference.parse(f"localhost/{name}") for name in ("here", "there"))
    layers = {str(number): PackedLayer("gcc", Blob(_DIGEST, number), _DIGEST) for number in range(600)}
    index.note(layers)
    index.note({"599": layers["599"]}, here)
    index.note({"599": layers["599"]}, there)
    found = index.layers()
    assert len(found) == 500
    assert "99" not in found
    assert found["599"] == PushedLayer(layers["599"], (here.place, there.place))
    index.forget(here)
    assert index.layers()["599"].places == (there.place,)
    (store.path / "blobs/layers.json").write_text('{"1": {}}')
    assert index.layers() == {}
    index.note({"1": layers["1"]})
    assert [*index.layers()] == ["1"]
