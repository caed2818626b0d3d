"""The pure parts of helpers/kernel-matrix: what it makes for a boot, how it reads and judges what came of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from kernel_matrix import archive, guest, images, report
from kernel_matrix.archive import Kernel


def kernel(release: str = "6.1.0-50-cloud-amd64") -> Kernel:
    return Kernel(release, Path("/boot/vmlinuz"), Path("/lib/modules"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list", "# deb http://other/debian x main\ndeb [arch=amd64] http://one/debian bookworm main\n"),
        ("sources.list", "deb http://one/debian/ bookworm main\n"),
        ("sources.list.d/x.sources", "Types: deb\nURIs: http://one/debian\nSuites: bookworm\n"),
        ("sources.list.d/x.sources", "URIs: http://one/debian-security\n\nTypes: deb\nURIs: http://one/debian\n"),
    ],
)
def test_mirror(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    assert archive.mirror(tmp_path) == "http://one/debian"


def test_no_mirror(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://one/ubuntu noble main\n")
    with pytest.raises(SystemExit):
        archive.mirror(tmp_path)


@pytest.mark.parametrize(
    ("depends", "expected"),
    [
        ("linux-image-6.1.0-50-cloud-amd64 (= 6.1.176-1)", ["linux-image-6.1.0-50-cloud-amd64=6.1.176-1"]),
        ("kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool", []),
        (
            "kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-6.8.0-151-generic",
            ["linux-modules-6.8.0-151-generic"],
        ),
        ("linux-image-7.0.0-44-generic", ["linux-image-7.0.0-44-generic"]),
        ("linux-main-modules-zfs-7.0.0-44-generic, linux-firmware, wireless-regdb", []),
    ],
)
def test_the_parts_of_a_kernel(depends: str, expected: list[str]) -> None:
    assert archive.parts(depends) == expected


def test_version_is_numbers() -> None:
    assert kernel("6.12.95+deb12-cloud-amd64").version == (6, 12)
    assert kernel("6.9.1").version < (6, 16) < kernel("7.3.4+deb13").version


def _unpacked(archive: bytes) -> Iterator[tuple[str, int, bytes]]:
    """The members of a cpio archive up to its end; everything in it begins at a multiple of four."""
    position = 0
    while position < len(archive):
        header = archive[position : position + 110]
        assert header.startswith(b"070701")
        mode, size, length = (int(header[6 + 8 * field : 14 + 8 * field], 16) for field in (1, 6, 11))
        name = archive[position + 110 : position + 110 + length].rstrip(b"\0").decode()
        start = (position + 110 + length + 3) // 4 * 4
        yield name, mode, archive[start : start + size]
        position = (start + size + 3) // 4 * 4


def test_the_members_of_a_cpio_archive() -> None:
    members = [("dir", 0o040755, b""), ("dir/file", 0o100644, b"hello"), ("four", 0o100755, b"1234")]
    assert list(_unpacked(images.newc(members))) == [*members, ("TRAILER!!!", 0, b"")]


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_modules_of_ubuntu_are_compressed(tmp_path: Path) -> None:
    (tmp_path / "fuse.ko").write_bytes(_module())
    subprocess.run(["zstd", "-q", "--rm", tmp_path / "fuse.ko"], check=True)
    (tmp_path / "modules.builtin").write_text("")
    assert images.modules(Kernel("6.8", tmp_path, tmp_path)) == {"fuse.ko": _module()}


def _module(*dependencies: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(dependencies).encode() + b"\0name=x\0"


def test_modules_come_after_those_they_need(tmp_path: Path) -> None:
    for name, content in {
        "overlay.ko": _module(),
        "btrfs.ko": _module("raid6_pq", "xor", "lib-crc"),
        "raid6_pq.ko": _module(),
        "xor.ko": _module("raid6_pq"),
        "lib-crc.ko": _module(),
        "unwanted.ko": _module(),
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    names = list(images.modules(Kernel("6.1", tmp_path, tmp_path)))
    assert names == ["raid6_pq.ko", "xor.ko", "lib_crc.ko", "btrfs.ko", "overlay.ko"]


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("sysenv-ns: it failed: why (EINVAL)\nhint: do this\n", "it failed: why (EINVAL): do this"),
        ("warning\nsysenv-ns: one\nsysenv-ns: two\nhint: x\n", "one"),
        ("Traceback\n", "no sentence of the tool: Traceback\n"),
    ],
)
def test_explanation(output: str, sentence: str) -> None:
    assert guest.explanation(output) == sentence


def _cases(text: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<testsuite>{text}</testsuite>"))


def test_tests_are_told_apart_by_their_mode() -> None:
    names = ["test_a[full]", "test_b[/usr-full]", "test_c[single]", "test_of_full", "test_d[fully]", "test_e[full-x]"]
    cases = _cases("".join(f'<testcase name="{name}"/>' for name in names))
    assert [case.get("name") for case in cases if guest.is_of("full", case)] == [names[0], names[1], names[5]]


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (0, '<testcase name="a[full]"/>', "passed"),
        (0, '<testcase name="a[full]"/><testcase name="b[full]"><skipped/></testcase>', "passed"),
        (1, '<testcase name="a[full]"/>', "passed"),  # another mode has failed
        (1, '<testcase name="a[full]"/><testcase name="b[full]"><failure/></testcase>', "failed"),
        (1, '<testcase name="a[full]"/><testcase name="b[full]"><error/></testcase>', "failed"),
        (0, '<testcase name="a[full]"><skipped/></testcase>', "failed"),
        (5, "", "failed"),
        (2, '<testcase name="a[full]"/>', "failed"),
        (124, '<testcase name="a[full]"/>', "failed"),
        (guest.HOST_CHANGED, '<testcase name="a[full]"/>', "failed"),
    ],
)
def test_verdict(code: int, text: str, status: str) -> None:
    assert guest.verdict(code, _cases(text))["status"] == status


def _cell(driver: str, status: str, detail: str = "", identity: str = "full") -> dict[str, Any]:
    return {"driver": driver, "identity": identity, "status": status, "detail": detail, "tests": 3}


_POLICY = {"policy": "user.x=0", "status": "proven", "detail": "sudo sysctl -w user.x=1"}


def test_what_is_impossible_is_a_note() -> None:
    cells = [_cell("stub", "refused", "it needs Linux 6.16"), _cell("copy", "passed")]
    row = report.row(kernel(), "ext4", [{"cells": cells, "policies": [_POLICY]}])
    assert list(report.failures([row])) == []
    table = report.tables([row], ["stub", "copy"])
    assert "| 6.1.0-50-cloud-amd64 | ext4 | - (1) |" in table
    assert "\n1. it needs Linux 6.16" in table
    assert "`sudo sysctl -w user.x=1`" in table


def test_costs_are_a_table_by_driver() -> None:
    costs = [
        {"driver": driver, "what": "walk", "ratio": number} for driver, number in (("idmap", 1.5), ("fuse", 34.123))
    ]
    rows = [report.row(kernel(), "ext4", [{"costs": [*costs, {"driver": "copy", "error": "no room"}]}])]
    table = report.tables(rows, ["idmap"])
    assert "| Linux | what | idmap | fuse |\n|---|---|---|---|\n" in table
    assert table.endswith("| 6.1.0-50-cloud-amd64 | walk | 1.50 | 34.12 |")
    assert list(report.failures(rows)) == ["6.1.0-50-cloud-amd64 ext4: no room"]
    assert "## What it costs" in report.document(rows, ["idmap"], ("-accel", "kvm"))


def test_earlier_series_stay_on_the_page() -> None:
    row = report.row(kernel(), "xfs", [{"cells": [_cell("copy", "passed")]}])
    page = report.document([row], ["copy"], ("-accel", "kvm"))
    assert report.earlier(page) == ""
    kept = "\n## Earlier series\n\n| Linux |\n"
    assert report.earlier(page + kept) == kept


def test_what_was_not_run_says_so() -> None:
    row = report.row(kernel(), "ext4", [{"cells": [_cell("copy", "passed")]}, {}])
    assert list(report.failures([row])) == []
    assert "| ext4 | not run | not run | works | not run |" in report.tables([row], ["reflink", "copy"])


@pytest.mark.parametrize(
    ("driver", "release", "file_system", "fails"),
    [
        ("stub", "6.12.1", "ext4", False),
        ("stub", "6.16.1", "ext4", True),
        ("reflink", "6.16.1", "ext4", False),
        ("idmap", "5.10.0", "ext4", False),
        ("idmap", "6.1.0", "ext4", True),
        ("reflink", "6.1.0", "xfs", True),
        ("reflink", "6.1.0", "btrfs", True),
        ("reflink", "5.10.0", "xfs", False),
        ("copy", "5.10.0", "ext4", False),
        ("fuse", "5.10.0", "ext4", False),
        ("root", "5.10.0", "ext4", False),
        ("copy", "6.1.0", "ext4", True),
        ("fuse", "6.1.0", "ext4", True),
        ("root", "6.1.0", "ext4", True),
    ],
)
def test_a_refusal_where_it_has_to_work_is_a_failure(driver: str, release: str, file_system: str, fails: bool) -> None:
    row = report.row(kernel(release), file_system, [{"cells": [_cell(driver, "refused", "no")]}])
    assert bool(list(report.failures([row]))) is fails


@pytest.mark.parametrize(
    "content",
    [
        {"error": "the guest ended without a report"},
        {"cells": [_cell("stub", "failed", "1 of 3 tests failed")]},
        {"policies": [{**_POLICY, "status": "failed"}]},
    ],
)
def test_failures_are_told(content: dict[str, Any]) -> None:
    row = report.row(kernel(), "xfs", [content])
    assert len(list(report.failures([row]))) == 1
    assert "**failed**" in report.tables([row], ["stub"])


def test_the_page_has_the_day_and_no_long_line() -> None:
    row = report.row(kernel(), "xfs", [{"cells": [_cell("copy", "passed")], "policies": [_POLICY]}])
    page = report.document([row], ["copy"], ("-accel", "kvm"))
    assert re.search(r"on \d{4}-\d\d-\d\d", page)
    assert "(KVM)" in page
    assert max(len(line) for line in page.splitlines() if not line.startswith("|")) <= 120
