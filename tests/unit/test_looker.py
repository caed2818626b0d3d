"""Which overlays are the environment's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.kernel import looker, mountinfo

_ROOT = "1 0 0:50 / / rw - overlay sysenv-ns:a rw\n"
_USR = "2 1 0:51 / /usr rw - overlay sysenv-ns:a rw\n"
_OTHERS = "3 1 0:52 / /mnt rw - overlay theirs rw\n4 1 8:1 / /home rw - ext4 sysenv-ns:a rw\n"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (_ROOT + _USR + _OTHERS, {(0, 50), (0, 51)}),
        (_ROOT + _OTHERS, {(0, 50)}),
        (_USR + _OTHERS, set()),  # in a chroot
        ("1 0 8:1 / / rw - ext4 disk rw\n" + _USR, set()),
        ("", set()),
    ],
)
def test_overlays(table: str, expected: set[tuple[int, int]]) -> None:
    assert looker._devices(mountinfo.parse(table.encode())) == {os.makedev(*numbers) for numbers in expected}


def test_they_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int | str] = []

    def read_table(pid: int | str) -> tuple[mountinfo.Mount, ...]:
        read.append(pid)
        return ()

    monkeypatch.setattr(mountinfo, "read", read_table)
    overlays = looker._Overlays()
    itself = os.getpid()
    assert overlays.have(itself, Path("/").stat().st_dev)
    assert read == []
    assert [overlays.have(itself, -1) for _ in range(3)] == [False] * 3
    assert read == [itself]
