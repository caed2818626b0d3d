"""What an archive says of itself: read as it was written, and not believed."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest

from sysenv_ns.archive import manifest, tarball
from sysenv_ns.archive.manifest import ArchivedLayer, ArchiveManifest, Machine
from sysenv_ns.archive.tarball import Damaged, Member, Reader
from sysenv_ns.environment.description import Snapshot
from sysenv_ns.errors import SysenvError

_WHOLE = ArchiveManifest(
    name="proj",
    driver="stub",
    id_map="full",
    created=1.5,
    machine=Machine("debian", "12", "x86_64"),
    layers=(ArchivedLayer(0, 1), ArchivedLayer(None, None), ArchivedLayer(1, 1)),
    current=(0, 2, 1),
    snapshots=((Snapshot("one", 2.5, (), "other", automatic=True), (2, 1)), (Snapshot("two", 3, (), "proj"), ())),
    origins=2,
    settings='shell = "/bin/sh"\n',
)


def _read(content: bytes, name: str = manifest.NAME) -> ArchiveManifest:
    member = Member(name.encode(), "file", size=len(content))
    data = tarball.encode(member) + content + tarball.padding(len(content)) + tarball.END
    return manifest.read(Reader(io.BytesIO(data).read), "FILE")


def _changed(**changes: Any) -> bytes:
    return json.dumps(json.loads(manifest.encode(_WHOLE)) | changes).encode()


@pytest.mark.parametrize("found", [_WHOLE, replace(_WHOLE, settings=None, id_map=None, snapshots=())])
def test_it_is_read_as_it_was_written(found: ArchiveManifest) -> None:
    assert _read(manifest.encode(found)) == found


@pytest.mark.parametrize("content", [b"[]", b"{}", _changed(format="other")])
def test_that_of_something_else(content: bytes) -> None:
    with pytest.raises(SysenvError, match="FILE was not made by sysenv-ns export"):
        _read(content)
    with pytest.raises(SysenvError, match="FILE was not made by sysenv-ns export"):
        _read(manifest.encode(_WHOLE), "other.json")


def test_a_later_format() -> None:
    with pytest.raises(SysenvError, match="FILE has format 2, this sysenv-ns reads 1"):
        _read(_changed(version=2))


_SNAPSHOT = {"label": "a", "created": 1, "environment": "x", "automatic": False, "layers": [1]}


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": []},
        {"layers": [{"packages": 2, "accounts": 0}]},
        {"layers": [{}]},
        {"layers": None},
        {"current": []},
        {"current": [1]},
        {"current": [0, 0]},
        {"current": [0, 3]},
        {"current": [0, -1]},
        {"origins": -1},
        {"origins": 10**9},
        {"created": "x"},
        {"created": float("nan")},
        {"created": 1e300},
        {"machine": {"system": "\x1b[2J", "version": "", "architecture": ""}},
        {"snapshots": [_SNAPSHOT | {"layers": [0]}]},
        {"snapshots": [_SNAPSHOT | {"layers": [3]}]},
        {"snapshots": [_SNAPSHOT | {"created": float("inf")}]},
        {"snapshots": [_SNAPSHOT, _SNAPSHOT]},
        {"snapshots": [{}]},
    ],
)
def test_what_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        _read(_changed(**changes))


@pytest.mark.parametrize("changes", [{"name": "../x"}, {"snapshots": [_SNAPSHOT | {"label": "a/b"}]}])
def test_names_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(SysenvError, match="is not a valid name"):
        _read(_changed(**changes))


@pytest.mark.parametrize(
    ("theirs", "force", "word"),
    [
        (Machine("debian", "12", "x86_64"), False, None),
        (Machine("debian", "12", "aarch64"), True, "for aarch64"),
        (Machine("debian", "13", "x86_64"), False, "on debian 13, this system is debian 12"),
        (Machine("debian", "13", "x86_64"), True, None),
        (Machine("", "", "x86_64"), False, "on an unknown system"),
    ],
)
def test_what_fits_this_machine(
    theirs: Machine, force: bool, word: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "machine", lambda: Machine("debian", "12", "x86_64"))
    if word is None:
        manifest.check_machine(theirs, "FILE", force)
    else:
        with pytest.raises(SysenvError, match=word):
            manifest.check_machine(theirs, "FILE", force)
