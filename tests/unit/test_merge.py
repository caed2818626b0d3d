"""Three-way merges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.packages import merge
from sysenv_ns.packages.dpkg import Alternatives, Diversion, Package


def _package(text: str | None) -> Package | None:
    """From "VERSION WANT STATE"; the last two may be left out."""
    if text is None:
        return None
    version, want, state = (text.split() + ["install", "installed"][len(text.split()) - 1 :])[:3]
    return Package("p", f"Package: p\nStatus: {want} ok {state}\nVersion: {version}\n".encode())


@pytest.mark.parametrize(
    ("old", "new", "own", "unpacked", "side", "result", "why"),
    [
        ("1", "1", "1", False, "host", "1", "same"),
        ("1", "2", "1", False, "host", "2", "updated"),
        ("1", None, "1", False, "host", None, "removed"),
        (None, "1", None, False, "host", "1", "added"),
        ("1", "2", "1", True, "host", "2", "updated"),  # installed again
        ("1", "2", "2", False, "host", "2", "updated"),  # no database of its own
        ("1", None, None, False, "host", None, "same"),
        ("1", "2", "2", True, "host", "2", "same version"),
        ("1", "3", "2", True, "own", "2", "changed here"),
        ("1", None, "2", True, "own", "2", "changed here"),
        (None, None, "1", True, "own", "1", "added here"),
        (None, "2", "1", True, "own", "1", "added here"),
        (None, "1", "1", True, "host", "1", "same version"),
        ("1", "2", None, False, "own", None, "removed here"),
        ("1", "1", None, False, "own", None, "removed here"),
        ("1", "2", "1 deinstall config-files", True, "own", "1 deinstall config-files", "removed here"),
        ("1", "2", "1 hold installed", False, "host", "2 hold installed", "updated, hold"),
        ("1", "2", "1 hold installed", True, "host", "2 hold installed", "updated, hold"),
        ("1", None, "1 hold installed", False, "host", None, "removed"),
        ("1", "2", "2 hold installed", True, "host", "2 hold installed", "same version"),
        ("1", "2", "2 install half-configured", True, "own", "2 install half-configured", "changed here"),
        ("1", "2", "1 install half-configured", True, "own", "1 install half-configured", "changed here"),
    ],
)
def test_what_becomes_of_a_package(
    old: str | None, new: str | None, own: str | None, unpacked: bool, side: str, result: str | None, why: str
) -> None:
    stems = frozenset({"p"} if unpacked else ())
    found = merge.decide("p", _package(old), _package(new), _package(own), stems)
    assert (found.side, found.package, found.why) == (side, _package(result), why)


_SIDES = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2))


@given(_SIDES, _SIDES)
def test_only_one_side_has_changed(old: dict[str, int], changed: dict[str, int]) -> None:
    assert merge.mapping(old, changed, old) == changed
    assert merge.mapping(old, old, changed) == changed
    assert merge.mapping(old, changed, changed) == changed


@given(_SIDES, _SIDES, _SIDES)
def test_what_the_environment_has_changed_stays(old: dict[str, int], new: dict[str, int], own: dict[str, int]) -> None:
    merged = merge.mapping(old, new, own)
    for key in "abcd":
        assert merged.get(key) == (own if own.get(key) != old.get(key) else new).get(key)


def test_lines_keep_bytes_that_are_no_text() -> None:
    assert merge.lines(b"\xff\n", b"\xff\nn\n", b"\xff\no\n") == b"\xff\nn\no\n"


def test_diversions_follow_their_package() -> None:
    def of(owner: str, target: str) -> dict[str, Diversion]:
        return {f"/{owner}": Diversion(f"/{owner}", target, owner)}

    new = of("host", "/new") | of("kept", "/new") | of(":", "/local")
    own = of("host", "/own") | of("kept", "/own")
    merged = merge.diversions({}, new, own, lambda package: "own" if package == "kept" else "host")
    assert {path: d.target for path, d in merged.items()} == {"/host": "/new", "/kept": "/own", "/:": "/local"}


def test_alternatives() -> None:
    def group(status: str = "auto", **choices: str) -> Alternatives:
        return Alternatives(status, "/link", {}, {path: (priority, {}) for path, priority in choices.items()})

    old, new = group(a="1", b="1", c="1"), group(a="2", b="1", d="1")
    own = group("manual", a="1", c="1", e="1")
    # a is the host's new one, b was taken away here, c points nowhere by now or is still wanted, e is our own.
    assert merge.alternatives(old, new, own) == group("manual", a="2", d="1", c="1", e="1")
    assert merge.alternatives(None, None, own) == own


def test_groups_get_the_members_of_both_sides() -> None:
    old, new, own = b"g:x:5:a,b\n", b"g:x:5:a,b,n\n", b"g:x:5:b,o\n"
    assert merge.groups(old, new, own) == b"g:x:5:b,n,o\n"
    assert merge.groups(old, old, own) == own
    assert merge.groups(b"", b"g:x:5:n\n", b"g:x:5:o\n") == b"g:x:5:n,o\n"


def test_the_environment_keeps_a_number_that_both_sides_gave() -> None:
    own = b"root:x:0:0::/:\nown:x:999:999::/:\n"
    merged, moved = merge.resolve_ids(own + b"host:x:999:998::/:\n", own, [998])
    assert merged == own + b"host:x:997:998::/:\n"
    assert [(m.name, m.old, m.new) for m in moved] == [("host", 999, 997)]
    renumbered = merge.renumber_groups(own + b"host:x:1:999::/:\n", own, [merge.Moved("host", 999, 5)])
    assert renumbered == own + b"host:x:1:5::/:\n"


def test_with_no_number_left_it_is_shared() -> None:
    """Root of an environment can use them all up, and starts must go on."""
    own = b"".join(f"own{number}:x:{number}:0::/:\n".encode() for number in range(1000))
    merged = own + b"host:x:999:998::/:\n"
    assert merge.resolve_ids(merged, own, ()) == (merged, ())


def test_users_who_share_a_number_on_one_side_keep_it() -> None:
    data = b"root:x:0:0::/:\ntoor:x:0:0::/:\n"
    assert merge.resolve_ids(data, data, ()) == (data, ())
