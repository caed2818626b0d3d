"""What gets another owner is what was looked at, whatever its directory's owner does with names meanwhile."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sysenv_ns.files.handover import Area, Heir, hand_over


def _heir(after: int, change: Callable[[], None]) -> Heir:
    """Somebody who gets files with one name, and changes something after so many looks at one. It is the caller."""
    looks = 0

    class Changing(Heir):
        def gets(self, status: os.stat_result) -> bool:
            nonlocal looks
            found = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
            looks += found
            if found and looks == after:
                change()
            return found

    return Changing(os.getuid(), os.getgid())


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("replace", [os.link, os.symlink])
def test_a_name_that_becomes_another_files(tmp_path: Path, replace: Callable[[Path, Path], None], after: int) -> None:
    victim, name = tmp_path / "victim", tmp_path / "home/name"
    (tmp_path / "home").mkdir()
    name.touch()
    victim.touch()

    changed: list[int] = []

    def change() -> None:
        name.unlink()
        replace(victim, name)
        changed.append(victim.stat().st_ctime_ns)
        time.sleep(0.02)  # file systems' clocks tick a few hundred times a second

    hand_over(Area(str(tmp_path / "home")), _heir(after, change))
    assert changed == [victim.stat().st_ctime_ns]


def test_no_link_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "real/inner/file").touch()
    (tmp_path / "link").symlink_to("real")
    heir = _heir(0, lambda: None)
    assert hand_over(Area(str(tmp_path / "link/inner")), heir) == 0
    assert hand_over(Area(str(tmp_path / "real/inner")), heir) == 1
