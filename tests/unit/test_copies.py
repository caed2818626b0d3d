"""Copies of trees with all that belongs to them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sysenv_ns.files import copies


def test_a_tree(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "directory").mkdir(parents=True)
    (source / "file").write_bytes(b"x" * 100_000)
    (source / "file").chmod(0o4710)
    os.setxattr(source / "file", "user.test", b"value")
    (source / "directory" / "link").hardlink_to(source / "file")
    (source / "symlink").symlink_to("nowhere")
    (source / "left out").touch()
    os.mkfifo(source / "fifo", 0o640)
    os.mknod(source / "whiteout", stat.S_IFCHR)
    (source / "directory").chmod(0o1755)
    os.utime(source / "directory", ns=(1, 2))
    copies.copy_tree(str(source), str(target), {str(source / "left out")})
    assert sorted(os.listdir(target)) == ["directory", "fifo", "file", "symlink", "whiteout"]
    for path in source.rglob("*"):
        if path.name != "left out":
            copy = target / path.relative_to(source)
            one, other = path.lstat(), copy.lstat()
            assert (one.st_mode, one.st_mtime_ns, one.st_rdev) == (other.st_mode, other.st_mtime_ns, other.st_rdev)
    assert (target / "file").read_bytes() == b"x" * 100_000
    assert os.getxattr(target / "file", "user.test") == b"value"
    assert (target / "file").samefile(target / "directory" / "link")
    assert os.readlink(target / "symlink") == "nowhere"
