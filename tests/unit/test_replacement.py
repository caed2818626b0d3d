"""Files that are written whole: their modes, and what is left of a writer that was killed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sysenv_ns.files.replacement import write_new, write_whole

from .trees import as_ordinary_user


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
@pytest.mark.parametrize("mode", [0o4755, 0o2711, 0o600, 0o666])
def test_an_exact_mode_is_that_of_the_whole_file(tmp_path: Path, mode: int, size: int) -> None:
    """A write takes the setuid bit away, of whoever is not root of the host."""
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    descriptor = os.open(directory, os.O_PATH)

    def write() -> int:
        path = Path(f"/proc/self/fd/{descriptor}/new")
        write_new(path, b"x" * size, mode, exact=True)
        return stat.S_IMODE(path.stat().st_mode)

    assert as_ordinary_user(write) == mode
    assert (directory / "new").stat().st_size == size


def test_what_a_killed_writer_has_left_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "file.new").symlink_to("other")
    write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "other").read_text() == "other"
    assert (tmp_path / "file").read_bytes() == b"content"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]
