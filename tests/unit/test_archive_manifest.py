"""What an archive says of itself: nothing of another form is taken for it, whatever is in the place of a value."""

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

_FOUND = ArchiveManifest(
    *("name", "stub", "full", 1.5, Machine("debian", "13", "x86_64")),
    layers=(ArchivedLayer(0, 0), ArchivedLayer(None, None)),
    current=(0, 1),
    snapshots=((Snapshot("one", 1.0, (), "name"), (1,)),),
    origins=1,
    settings='shell = "/bin/sh"\n',
)


def _reader(name: str, content: bytes) -> Reader:
    head = tarball.encode(Member(name.encode(), "file", size=len(content)))
    return Reader(io.BytesIO(head + content + tarball.padding(len(content)) + tarball.END).read)


def _read(content: bytes) -> ArchiveManifest:
    return manifest.read(_reader(manifest.NAME, content), "it")


def _changed(path: tuple[str | int, ...], value: Any) -> bytes:
    data = json.loads(manifest.encode(_FOUND))
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(data).encode()


_TEXTS: tuple[Any, ...] = (1, None, [], "\ud800", "\udc80", "a\0", "a" * 5000, "\x1b[1m", "../x")
_NUMBERS: tuple[Any, ...] = ("0", True, 0.0, -1, 10_000, 2**63, 10**4000, float("nan"), [])
_TIMES = ("1", True, -1, 1e300, float("inf"), float("nan"), 10**4000, None)
_WRONG: dict[tuple[str | int, ...], tuple[Any, ...]] = {
    ("version",): ("1", True, 1.0, None, 10**4000),
    ("name",): (*_TEXTS, "", "."),
    ("driver",): _TEXTS,
    ("id_map",): tuple(text for text in _TEXTS if text is not None),
    ("created",): _TIMES,
    ("machine",): (None, [], "x"),
    ("machine", "system"): _TEXTS,
    ("layers",): ([], {}, None, "ab", [None], [{}], [{"packages": None, "accounts": None}] * 10_000),
    ("layers", 0, "packages"): _NUMBERS,
    ("current",): ([], [1], [0, 0], [0, 2], [0, True], [0.0], {"0": 1}, "0", 0, [0, *[1] * 99]),
    ("snapshots",): ({}, None, [[]], [{}]),
    ("snapshots", 0, "label"): (*_TEXTS, ""),
    ("snapshots", 0, "environment"): _TEXTS,
    ("snapshots", 0, "created"): _TIMES,
    ("snapshots", 0, "automatic"): (0, None, "true"),
    ("snapshots", 0, "layers"): ([0], [1, 1], ["1"], None),
    ("origins",): _NUMBERS,
    ("settings",): (1, [], "\ud800", "a\0b", "#" * 10_000),
}
_CASES = [(path, value) for path, values in _WRONG.items() for value in values]


@pytest.mark.parametrize(("path", "value"), _CASES, ids=range(len(_CASES)))
def test_another_form_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    with pytest.raises((Damaged, SysenvError)) as error:  # the latter for names
        _read(_changed(path, value))
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000])
def test_nesting_without_end(nested: str) -> None:
    with pytest.raises(Damaged, match="nests too deeply"):
        _read(nested.encode())
    reader = _reader(manifest.END, nested[:1000].encode())
    member = reader.next()
    assert member is not None
    with pytest.raises(Damaged, match="invalid end record"):
        manifest.read_end(reader, member)


@pytest.mark.parametrize("settings", ["\udcff", "a\0", "#" * 10_000])
def test_what_would_not_be_read_is_not_written(settings: str) -> None:
    with pytest.raises(SysenvError, match="the settings of name cannot be exported"):
        manifest.encode(replace(_FOUND, settings=settings))
