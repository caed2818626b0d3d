"""Id maps: the user's subordinate ranges, and the maps made of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.kernel import idmap
from sysenv_ns.kernel.idmap import OVERFLOW_ID, Extent
from sysenv_ns.kernel.subordinate import Range

FIRST_SUBORDINATE = 100_000

own_ids = st.integers(0, FIRST_SUBORDINATE - 1)


@st.composite
def disjoint_ranges(draw: st.DrawFn) -> list[Range]:
    """Subordinate ranges as an administrator grants them: anywhere, in any order, not overlapping."""
    ranges = []
    position = FIRST_SUBORDINATE
    for gap, count in draw(st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 70_000)), max_size=5)):
        ranges.append(Range(position + gap, count))
        position += gap + count
    return draw(st.permutations(ranges))


def spans(extents: tuple[Extent, ...], side: str) -> list[tuple[int, int]]:
    return sorted((getattr(e, side), getattr(e, side) + e.count) for e in extents)


def overlap(intervals: list[tuple[int, int]]) -> bool:
    return any(end > start for (_, end), (start, _) in itertools.pairwise(intervals))


def outside(number: int, extents: tuple[Extent, ...]) -> int:
    (found,) = [e.outside + number - e.inside for e in extents if e.inside <= number < e.inside + e.count]
    return found


@given(own_ids, disjoint_ranges())
def test_full_maps_every_id_once(own: int, ranges: list[Range]) -> None:
    uids = idmap.full(own, own, ranges, ranges).uids
    total = sum(piece.length for piece in ranges)
    assert all(extent.count > 0 for extent in uids)
    assert not overlap(spans(uids, "inside"))
    assert not overlap(spans(uids, "outside"))
    assert sum(extent.count for extent in uids) == total + 1
    assert outside(own, uids) == own
    for number in {0, total - 1, own - 1} & set(range(total)):
        assert outside(number, uids) >= FIRST_SUBORDINATE or number == own


@given(own_ids, disjoint_ranges())
def test_full_uses_all_of_the_ranges_from_zero_on(own: int, ranges: list[Range]) -> None:
    uids = idmap.full(own, own, ranges, ranges).uids
    total = sum(piece.length for piece in ranges)
    ids = set(range(total + 1)) if own <= total else set(range(total)) | {own}
    assert {i for e in uids for i in range(e.inside, e.inside + e.count)} == ids
    given_ids = {i for piece in ranges for i in range(piece.first, piece.end)}
    assert {i for e in uids for i in range(e.outside, e.outside + e.count)} == given_ids | {own}


def test_full_of_the_usual_user() -> None:
    id_map = idmap.full(1000, 100, [Range(100000, 65536)], [Range(200000, 65536)])
    assert id_map.uids == (Extent(0, 100000, 1000), Extent(1001, 101000, 64536), Extent(1000, 1000, 1))
    assert id_map.gids == (Extent(0, 200000, 100), Extent(101, 200100, 65436), Extent(100, 100, 1))
    assert (id_map.kind, id_map.own_uid, id_map.own_gid) == ("full", 1000, 100)


@pytest.mark.parametrize(
    "ranges",
    [
        [Range(100000, 65536), Range(100000, 65536)],  # granted by name and by number
        [Range(100000, 65536), Range(150000, 65536)],
        [Range(500, 65536)],  # holds the user's own id
    ],
)
def test_overlapping_ranges_give_a_map_that_the_kernel_takes(ranges: list[Range]) -> None:
    uids = idmap.full(1000, 1000, ranges, ranges).uids
    assert not overlap(spans(uids, "inside"))
    assert not overlap(spans(uids, "outside"))


def test_single_maps_the_caller_to_root() -> None:
    id_map = idmap.single(1000, 100)
    assert (id_map.uids, id_map.gids) == ((Extent(0, 1000, 1),), (Extent(0, 100, 1),))
    assert (id_map.kind, id_map.own_uid, id_map.own_gid) == ("single", 0, 0)


@pytest.mark.parametrize("number", [0, 1, 1000, 65535, 65536, 4_000_000_000])
def test_everything_belongs_to_root_in_the_single_map(number: int) -> None:
    id_map = idmap.single(1000, 1000)
    assert (id_map.uid_inside(number), id_map.gid_inside(number)) == (0, 0)


@pytest.mark.parametrize(
    ("number", "inside"), [(0, 0), (1000, 1000), (65536, 65536), (65537, OVERFLOW_ID), (4_000_000_000, OVERFLOW_ID)]
)
def test_owners_keep_their_number_in_the_full_map(number: int, inside: int) -> None:
    id_map = idmap.full(1000, 1000, [Range(100000, 65536)], [Range(100000, 65536)])
    assert (id_map.uid_inside(number), id_map.gid_inside(number)) == (inside, inside)


def test_find_program_looks_in_system_directories_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "relative:/nowhere")
    found = idmap.find_program("sh")
    assert found is not None
    assert found.endswith("bin/sh")
    assert idmap.find_program("no-such-program-here") is None
