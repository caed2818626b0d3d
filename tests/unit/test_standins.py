"""Files that stand in for the host's: their content and where they go."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from sysenv_ns.host import standins
from sysenv_ns.host.base_files import COPY, Addition
from sysenv_ns.host.standins import additions
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.lower import additions as of_layers


def names_in(path: str) -> list[str]:
    lines = Path(path).read_text(errors="surrogateescape").split("\n")
    return [line.split(":")[0] for line in lines if ":" in line and line[0] not in "+-#"]


@pytest.mark.parametrize(
    ("path", "source", "fields"),
    [
        ("/etc/shadow", "/etc/passwd", 9),
        ("/etc/shadow-", "/etc/passwd", 9),
        ("/etc/gshadow", "/etc/group", 4),
        ("/etc/gshadow-", "/etc/group", 4),
    ],
)
def test_shadow_files_lock_everybody(path: str, source: str, fields: int) -> None:
    content = standins.content(path)
    assert content is not None
    rows = [line.split(":") for line in content.decode("utf-8", "surrogateescape").splitlines()]
    assert [row[0] for row in rows] == names_in(source)
    assert {len(row) for row in rows} == {fields}
    assert {row[1] for row in rows} == {"!"}


def test_gshadow_keeps_the_members() -> None:
    content = standins.content("/etc/gshadow")
    assert content is not None
    members = [line.split(":")[-1] for line in Path("/etc/group").read_text().splitlines()]
    assert [line.split(":")[-1] for line in content.decode().splitlines()] == members


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/sudoers.d", "/etc/shadow.bak", "/usr/etc/shadow", "etc/shadow"])
def test_other_files_have_no_stand_in(path: str) -> None:
    assert standins.content(path) is None


def test_what_cannot_be_read_has_in_the_package_database_the_checksum_of_what_is_there_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else dpkg would ask at an upgrade about an edit that nobody made."""
    for name in ("open", "closed", "old"):
        (tmp_path / name).write_text("shipped\n")
    monkeypatch.setattr(os, "access", lambda path, mode: path == str(tmp_path / "open"))
    sums = {name: hashlib.md5(name.encode()).hexdigest() for name in ("open", "closed", "old", "gone")}
    lines = [f" {tmp_path}/{name} {sums[name]}" for name in ("open", "closed", "gone")]
    lines.append(f" {tmp_path}/old {sums['old']} obsolete")
    text = "\n".join(["Package: trip", "Conffiles:", *lines, "Description: one", f" of {tmp_path}/closed", "", ""])
    expected = text.replace(sums["closed"], hashlib.md5(b"").hexdigest())
    assert standins.package_status(text.encode()) == expected.encode()


def test_sudoers_lets_root_and_the_included_files_in() -> None:
    content = standins.content("/etc/sudoers")
    assert content is not None
    assert b"\nroot\tALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n" in content


@pytest.mark.parametrize(
    ("root_only", "host_sudo", "setpriv", "expected"),
    [
        (False, True, "/usr/bin/setpriv", []),
        (True, True, None, ["etc/apt/apt.conf.d/00sysenv-ns", "etc/passwd"]),
        (False, False, "/usr/bin/setpriv", ["usr/bin/sudo", "usr/lib/sysenv-ns/setpriv"]),
        (False, False, None, ["usr/bin/sudo"]),
    ],
)
def test_additions(root_only: bool, host_sudo: bool, setpriv: str | None, expected: list[str]) -> None:
    paths = [addition.path for addition in additions(root_only, host_sudo, setpriv)]
    assert paths == ["etc/sudoers.d/sysenv-ns", *expected]


def test_modes_and_content_of_additions() -> None:
    added = {addition.path: addition for addition in additions(True, False, "/usr/bin/setpriv")}
    assert {path: addition.mode for path, addition in added.items()} == {
        "etc/sudoers.d/sysenv-ns": 0o440,
        "etc/apt/apt.conf.d/00sysenv-ns": 0o644,
        "etc/passwd": 0o644,
        "usr/bin/sudo": 0o755,
        "usr/lib/sysenv-ns/setpriv": 0o4755,
    }
    assert 'APT::Sandbox::User "root";' in added["etc/apt/apt.conf.d/00sysenv-ns"].content
    assert added["usr/lib/sysenv-ns/setpriv"].copy_of == "/usr/bin/setpriv"


def test_sudo_accepts_its_stand_ins(tmp_path: Path) -> None:
    visudo = find_program("visudo")
    if visudo is None:
        pytest.skip("no visudo here")
    path = tmp_path / "sudoers"
    path.write_text(additions(False, True, None)[0].content)
    result = subprocess.run([visudo, "-c", "-f", path], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_prompt_is_the_name() -> None:
    assert standins.prompt("proj") == Addition("etc/debian_chroot", 0o644, "proj\n")


def test_batches_of_additions_come_parents_first(tmp_path: Path) -> None:
    source = tmp_path / "program"
    source.write_bytes(b"\x7fELF")
    added = (Addition("a/b/c", 0o644, "text"), Addition("a/d", 0o4755, copy_of=str(source)))
    batches = list(of_layers.batches(added))
    assert [directory for directory, _, _ in batches] == ["", "a", "a/b"]
    assert batches[1][2] == [(COPY, "d", 0o4755, 0, 0, 0, b"\x7fELF")]
    assert batches[2][2] == [(COPY, "c", 0o644, 0, 0, 0, b"text")]
    assert batches[0][1][2] == Path("/").stat().st_mode & 0o7777
    assert batches[2][1][2] == 0o755
