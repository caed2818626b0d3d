"""Lines of tmpfiles.d(5)."""

from __future__ import annotations

import pytest

from sysenv_ns.inside.tmpfiles import Line, parse


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("d /run/screen 1777 root utmp", Line("directory", "screen", 0o1777, "root", "utmp")),
        ("D! /run/podman 0700 root root", Line("directory", "podman", 0o700)),
        ("d /var/run/sshd", Line("directory", "sshd", 0o755)),
        ("d %t/a/b/ - 33 44 -", Line("directory", "a/b", 0o755, "33", "44")),
        ('q "/run/quoted" ~2750 :me :us', Line("directory", "quoted", 0o2750, "me", "us")),
        ("f /run/file 0664 root utmp - two words", Line("file", "file", 0o664, "root", "utmp", "two words")),
        ("L+ /run/shm - - - - /dev/shm", Line("symlink", "shm", 0o777, "root", "root", "/dev/shm")),
        ("p /run/pipe", Line("fifo", "pipe", 0o644)),
        *(
            (line, None)
            for line in (
                "f+! /run/nologin",
                "d /run/systemd/seats",
                "z /run/x 0755",
                "r! /run/x",
                "d /var/lib/x",
                "d /run",
                "d",
            )
        ),
        *((line, None) for line in ("# d /run/x", "d /run/%m", "d /run/../etc/x", "d /run/x mode", "", "d /running")),
    ],
)
def test_a_line(line: str, expected: Line | None) -> None:
    assert list(parse(f"{line}\n")) == ([] if expected is None else [expected])
