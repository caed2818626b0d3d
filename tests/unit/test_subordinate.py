"""Subordinate ids: what is granted, what of it exists, and what a user is told when it is too little or refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.kernel import subordinate
from sysenv_ns.kernel.subordinate import Range


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("you:100000:65536\n", [(100000, 65536)]),
        ("1000:100000:65536\n", [(100000, 65536)]),
        ("other:1:2\nyou:100000:65536\nyou:300000:10", [(100000, 65536), (300000, 10)]),
        ("  you:100000:65536  ", [(100000, 65536)]),
        ("#you:1:2\n\nyou\nyou:\nyou:1\nyou:a:b\nyou:1:-2\nyou:1:2:3\nyour:1:2\n", []),
        ("", []),
    ],
)
def test_parse(text: str, expected: list[tuple[int, int]]) -> None:
    assert list(subordinate.parse(text, "you", 1000)) == expected


@given(st.text() | st.lists(st.text(alphabet="you:0123456789²٣ \t-", max_size=20)).map("\n".join))
def test_parse_never_raises(text: str) -> None:
    assert all(piece.length >= 0 and piece.first >= 0 for piece in subordinate.parse(text, "you", 1000))


def test_parse_passes_over_an_absurd_number() -> None:
    assert subordinate.parse(f"you:{'9' * 5000}:1\nyou:1:2\n", "you", 1000) == ((1, 2),)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("", ""), 100000),
        (("a:100000:65536\n", ""), 165536),
        (("a:100000:65536\n", "a:165536:65536\nb:231072:65536\n"), 296608),
        (("a:165536:65536\n", ""), 100000),  # a gap that is large enough
        (("a:150000:65536\n", ""), 215536),
        (("a:1000:99000\nb:99999:1\n", ""), 100000),
        (("a:99999:2\n", ""), 100001),
        (("b:300000:10\na:100000:300000\n", "nonsense\nx:y:z\n"), 400000),
    ],
)
def test_a_range_that_nobody_has(texts: tuple[str, str], expected: int) -> None:
    assert subordinate.free(texts) == (expected, 65536)


@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 100_000))))
def test_a_range_that_is_shown_overlaps_with_no_other(ranges: list[tuple[int, int]]) -> None:
    new = subordinate.free(["".join(f"someone:{first}:{count}\n" for first, count in ranges)])
    assert not any(first < new.end and first + count > new.first for first, count in ranges if count)


@pytest.mark.parametrize(
    ("ranges", "id_map", "expected"),
    [
        ([(100000, 65536)], "         0          0 4294967295\n", [(100000, 65536)]),
        ([(100000, 65536)], "0 1000000 65536\n", []),
        ([(100000, 65536)], "0 1000000 131072\n", [(100000, 31072)]),
        ([(100000, 65536), (5, 10)], "0 1000000 131072\n", [(100000, 31072), (5, 10)]),
        ([(5, 10)], "0 100000 7\n8 8 2\n10 100010 100\n", [(5, 2), (8, 2), (10, 5)]),
        ([(5, 10)], "", []),
    ],
)
def test_what_exists_of_ranges(ranges: list[tuple[int, int]], id_map: str, expected: list[tuple[int, int]]) -> None:
    assert list(subordinate.existing([Range(*piece) for piece in ranges], id_map)) == expected


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        ("", "sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 you"),
        ("you:300000:65536\n", "sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 you"),
        ("you:200000:100\n", "sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 you"),
        ("other:265535:65536\n", "/etc/subuid now grants other the ids that this was made with"),
        ("you:200000:6\n1000:200006:65530\n", "the ids are granted to you"),
        ("other:265536:65536\nyou:200000:65536\n", "the ids are granted to you"),
    ],
)
def test_what_is_said_of_a_map_that_is_refused(grants: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other range would be of no use for what there is: not to run it, nor to delete it."""
    here = {kind.here: "0 0 4294967295\n" for kind in subordinate.KINDS}
    monkeypatch.setattr(subordinate, "_read", lambda path: here.get(path, grants))
    monkeypatch.setattr(subordinate, "_user_name", lambda _: "you")
    monkeypatch.setattr(subordinate, "_usual_group", os.getgid)
    monkeypatch.setattr("os.getuid", lambda: 1000)
    pieces = [Range(200000, 1000), Range(201000, 64536)]  # as they are around the user's own id
    assert expected in subordinate.refusal_hint("/usr/bin/su", [pieces, pieces])
    monkeypatch.setattr(subordinate, "_read", lambda path: "0 0 65536\n" if path in here else grants)
    assert "this container" in subordinate.refusal_hint("/usr/bin/su", [pieces, pieces])
