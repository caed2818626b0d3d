"""The names of an archive's members: what may come where, in little memory and few steps however deep it is."""

from __future__ import annotations

import pytest

from sysenv_ns.archive.names import Names
from sysenv_ns.archive.tarball import Damaged, Kind, Member


def _names(*members: tuple[bytes, Kind]) -> Names:
    names = Names()
    for name, kind in members:
        names.add(Member(name, kind))
    return names


_TREE: tuple[tuple[bytes, Kind], ...] = (
    (b"layers/0", "directory"),
    (b"layers/0/d", "directory"),
    (b"layers/0/d/file", "file"),
    (b"layers/1", "directory"),
    (b"layers/0/d/e", "directory"),
)


def test_what_is_there() -> None:
    names = _names(*_TREE)
    assert [names.kind(name) for name, _ in _TREE] == [kind for _, kind in _TREE]
    for missing in (b"layers", b"layers/2", b"layers/0/x", b"layers/0/d/file/x", b"layers/0/d/"):
        assert names.kind(missing) is None
    assert names.directory(b"layers/0/d/file") is None
    assert names.directory(b"layers/0/d") == Member(b"", "directory")


def test_directories_come_after_what_is_in_them() -> None:
    found = [name for name, _ in _names(*_TREE).directories()]
    assert found == [b"layers/0/d/e", b"layers/0/d", b"layers/0", b"layers/1"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"layers/0", "directory"),
        (b"layers/0/d", "file"),
        (b"layers/0/d/file", "directory"),
        (b"layers/0/d/file/x", "file"),
        (b"layers/0/none/x", "directory"),
        (b"layers/2/x", "file"),
        (b"layers/2", "file"),
    ],
)
def test_what_may_not_be_there(name: bytes, kind: Kind) -> None:
    names = _names(*_TREE)
    with pytest.raises(Damaged):
        names.add(Member(name, kind))


def test_a_directory_that_comes_after_all() -> None:
    """What was not there when it was asked for is found later."""
    names = _names(*_TREE)
    with pytest.raises(Damaged):
        names.add(Member(b"layers/0/late/x", "file"))
    names.add(Member(b"layers/0/late", "directory"))
    names.add(Member(b"layers/0/late/x", "file"))
    assert names.kind(b"layers/0/late/x") == "file"


def test_attributes_of_directories_have_a_limit() -> None:
    names = _names((b"layers/0", "directory"))
    attributes = {b"user.a": bytes(1 << 20)}
    for number in range(63):
        names.add(Member(b"layers/0/%d" % number, "directory", attributes=attributes))
    with pytest.raises(Damaged, match="too many attributes"):
        names.add(Member(b"layers/0/x", "directory", attributes=attributes))
