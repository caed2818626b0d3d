"""Maps of sparse files with more holes than an archive has room for."""

from __future__ import annotations

import pytest

from sysenv_ns.archive import packer, tarball


@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_the_smallest_holes_are_filled(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarball, "EXTENTS_LIMIT", limit)
    found = tuple(packer._fewer([(5, 10), (20, 5), (1000, 1), (1100, 100)]))
    wanted = {
        1: ((5, 1195),),
        2: ((5, 20), (1000, 200)),
        3: ((5, 20), (1000, 1), (1100, 100)),
        9: ((5, 10), (20, 5), (1000, 1), (1100, 100)),
    }
    assert found == wanted[limit]
    assert tuple(packer._fewer([])) == ()
