"""Mount tables: parsing, escapes, and which mounts a path can reach."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.kernel import mountinfo
from sysenv_ns.kernel.mountinfo import Mount

from .samples import TABLES, table


def escape(name: bytes) -> bytes:
    """What the kernel prints for a name (mangle_path in fs/seq_file.c)."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)


names = st.binary(max_size=40).map(lambda name: name.replace(b"\0", b""))


@given(names)
def test_unescape_undoes_the_kernels_escapes(name: bytes) -> None:
    assert os.fsencode(mountinfo.unescape(escape(name))) == name


@given(names, names)
def test_any_mount_point_survives_parsing(point: bytes, root: bytes) -> None:
    line = b"40 28 0:40 /%s /%s rw - tmpfs none rw\n" % (escape(root), escape(point))
    (mount,) = mountinfo.parse(line)
    assert (os.fsencode(mount.point), os.fsencode(mount.root)) == (b"/" + point, b"/" + root)


def test_a_mount_point_may_hold_a_carriage_return() -> None:
    (mount,) = mountinfo.parse(b"40 28 0:40 / /mnt/a\rb rw - tmpfs none rw\n")
    assert mount.point == "/mnt/a\rb"


@pytest.mark.parametrize("name", TABLES)
def test_saved_tables_have_one_root(name: str) -> None:
    mounts = table(name)
    assert [mount.fstype for mount in mounts if mount.point == "/"] in (["ext4"], ["btrfs"], ["xfs"], ["overlay"])


def test_fields_are_found_behind_any_number_of_optional_ones() -> None:
    line = b"36 35 98:0 /mnt1 /mnt2 rw,noatime %s- ext3 /dev/root rw,errors=continue\n"
    expected = Mount(
        36, 35, "98:0", "/mnt1", "/mnt2", ("rw", "noatime"), "ext3", "/dev/root", ("rw", "errors=continue")
    )
    for optional in (b"", b"master:1 ", b"shared:2 master:1 propagate_from:7 "):
        assert mountinfo.parse(line % optional) == (expected,)


def test_a_source_may_be_empty() -> None:
    assert mountinfo.parse(b"40 28 0:40 / /mnt rw - tmpfs  rw\n")[0].source == ""


@pytest.mark.parametrize(
    "line",
    [b"x", b"1 2 3 / / rw", b"a 2 0:1 / / rw - ext4 none rw", b"1 2 0:1 / / rw shared:1 ext4", b"1 2 0:1 / / rw -"],
)
def test_a_line_that_is_none_is_an_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="not a mountinfo line"):
        mountinfo.parse(line)


def test_escapes_of_a_saved_table() -> None:
    assert [mount.point for mount in table("escapes")] == [
        "/",
        "/usr/share/with space\ttab\nnewline\\backslash",
        "/opt/café\\040#",
    ]


def test_the_table_of_this_process_can_be_read() -> None:
    assert any(mount.point == "/" for mount in mountinfo.read())


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [
        ("/usr/bin", "/usr", True),
        ("/usr", "/usr", False),
        ("/usrlocal", "/usr", False),
        ("/usr", "/", True),
        ("/", "/", False),
        ("/", "/usr", False),
    ],
)
def test_is_below(path: str, directory: str, expected: bool) -> None:
    assert mountinfo.is_below(path, directory) is expected


def test_covered_mounts_are_not_visible() -> None:
    shown = [mount.source for mount in mountinfo.visible(table("masked"))]
    assert shown == ["/dev/nvme0n1p2", "second", "filer:/export", "moved", "games"]


def test_visible_does_not_depend_on_the_order() -> None:
    mounts = table("masked")
    assert set(mountinfo.visible(mounts[::-1])) == set(mountinfo.visible(mounts))


def test_a_mount_on_a_covered_one_is_covered() -> None:
    mounts = mountinfo.parse(
        b"28 1 8:1 / / rw - ext4 root rw\n40 28 0:40 / /a rw - tmpfs lower rw\n41 40 0:41 / /a/b/c rw - tmpfs x rw\n"
        b"42 40 0:42 / /a/b rw - tmpfs upper rw\n43 42 0:43 / /a/b/c rw - tmpfs y rw\n44 28 0:44 / /ab rw - tmpfs z rw"
    )
    assert [mount.mount_id for mount in mountinfo.visible(mounts)] == [28, 40, 42, 43, 44]


def test_the_parent_of_a_mount_need_not_be_in_the_table() -> None:
    # in a chroot whose root is no mount
    mounts = mountinfo.parse(b"40 28 0:40 / /proc rw - proc proc rw\n41 28 0:41 / /proc/x rw - tmpfs x rw\n")
    assert [mount.mount_id for mount in mountinfo.visible(mounts)] == [40]


@pytest.mark.parametrize("name", [name for name in TABLES if name != "masked"])
def test_without_covered_mounts_all_are_visible(name: str) -> None:
    assert mountinfo.visible(table(name)) == table(name)


def test_a_root_mounted_over_another_hides_all_that_came_before() -> None:
    mounts = mountinfo.parse(
        b"1 1 0:2 / / rw - rootfs rootfs rw\n2 1 0:3 / /old rw - tmpfs old rw\n3 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    )
    assert [mount.mount_id for mount in mountinfo.visible(mounts)] == [3]


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/", "/"),
        ("/etc/passwd", "/"),
        ("/usr", "/usr"),
        ("/usr/local", "/usr/local"),
        ("/usr/localx", "/usr"),
        ("/var/log/apt", "/var/log"),
    ],
)
def test_containing_is_the_innermost_mount(path: str, point: str) -> None:
    mount = mountinfo.containing(path, table("lvm"))
    assert mount is not None
    assert mount.point == point


def test_containing_nothing() -> None:
    assert mountinfo.containing("/usr", ()) is None
