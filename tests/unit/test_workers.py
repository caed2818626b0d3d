"""Which tests a worker gets: those for which it has built a base."""

from __future__ import annotations

import pytest
from integration.workers import next_of

_WAITING = ["a.py[full]", "b.py::test[single-x]", "c.py[root]", "d.py::test[single]", "e.py::test"]


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        (set(), set(), "a.py[full]"),
        (set(), {"full"}, "b.py::test[single-x]"),
        ({"full"}, {"full", "single"}, "a.py[full]"),
        ({"single"}, {"full", "root"}, "b.py::test[single-x]"),
        ({""}, {"full", "single", "root", ""}, "e.py::test"),
        ({"sudo"}, {"full", "single", "root", ""}, "a.py[full]"),
    ],
)
def test_the_next_one(own: set[str], others: set[str], expected: str) -> None:
    assert next_of(_WAITING, own, others) == expected
