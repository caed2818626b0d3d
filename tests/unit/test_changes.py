"""What counts as a change, of files and of packages."""

from __future__ import annotations

import pytest

from sysenv_ns.diff import changes
from sysenv_ns.diff.changes import Change, Facts, PackageChange
from sysenv_ns.packages import versions
from sysenv_ns.packages.dpkg import Package, parse_status

FILE = Facts("file", 0o644, 0, 0, 10)
LINK = Facts("symlink", 0o777, 0, 0)


@pytest.mark.parametrize(
    ("old", "new", "same", "attributes", "kind", "metadata"),
    [
        (None, FILE, True, True, "added", ()),
        (FILE, None, True, True, "deleted", ()),
        (FILE, LINK, False, False, "type", ()),
        (FILE, FILE, False, True, "modified", ()),
        (FILE, FILE._replace(mode=0o600, uid=1), False, True, "modified", ("mode", "owner")),
        (FILE, FILE._replace(mode=0o600), True, True, "metadata", ("mode",)),
        (FILE, FILE._replace(gid=1), True, False, "metadata", ("owner", "attributes")),
    ],
)
def test_kinds(
    old: Facts | None, new: Facts | None, same: bool, attributes: bool, kind: changes.Kind, metadata: tuple[str, ...]
) -> None:
    assert changes.compare("/a", old, new, same, attributes) == Change("/a", kind, old, new, metadata)


def test_what_is_the_same_is_no_change() -> None:
    assert changes.compare("/a", FILE, FILE) is None
    assert changes.compare("/a", None, None) is None


def test_details() -> None:
    changed = changes.compare("/a", FILE, Facts("file", 0o4755, 1, 2, 10), same_attributes=False)
    assert changed is not None
    assert changes.details(changed) == ["mode 0644 -> 4755", "owner 0:0 -> 1:2", "other attributes"]
    assert changes.details(Change("/a", "type", FILE, LINK)) == ["file -> symlink"]
    assert changes.details(Change("/a", "added", None, LINK)) == []


@pytest.mark.parametrize(
    ("path", "fold"),
    [
        ("/var/lib/sysenv-ns", "database"),
        ("/var/lib/sysenv-ns/manifest.json", "database"),
        ("/var/log", ""),
        ("/var/log/apt/term\nlog", "log"),
        ("/var/lib/dpkg/status", "database"),
        ("/var/lib/dpkg-own", ""),
        ("/var/lib/apt/extended_states", "database"),
        ("/var/lib/apt/lists/x", "cache"),
        ("/var/cache/debconf/config.dat", "cache"),
        ("/usr/lib/python3/__pycache__", "cache"),
        ("/usr/lib/python3/__pycache__/a.pyc", "cache"),
        ("/usr/lib/python3/my__pycache__", ""),
        ("/etc/ld.so.cache", "cache"),
        ("/etc/ld.so.conf", ""),
        ("/usr/share/icons/hicolor/icon-theme.cache", "cache"),
    ],
)
def test_fold(path: str, fold: str) -> None:
    assert changes.fold(path) == fold


def _packages(**versions: str) -> dict[str, Package]:
    text = "\n".join(
        f"Package: {name}\nStatus: install ok {'config-files' if version == 'rc' else 'installed'}\n"
        f"Version: {version}\nArchitecture: all\n"
        for name, version in versions.items()
    )
    return parse_status(text.encode())


def test_packages() -> None:
    old = _packages(same="1", up="1", down="2", gone="1", configured="1", drifted="1", left="1", both="1")
    host = _packages(same="1", up="1", down="2", gone="1", configured="1", drifted="2", both="2", fresh="1")
    own = _packages(same="1", up="2", down="1", configured="rc", drifted="1", left="1", both="2", new="1")
    found, drifted = changes.packages(old, host, own)
    assert found == (
        PackageChange("configured", "removed", "1", ""),
        PackageChange("down", "downgraded", "2", "1"),
        PackageChange("gone", "removed", "1", ""),
        PackageChange("new", "added", "", "1"),
        PackageChange("up", "upgraded", "1", "2"),
    )
    assert drifted == 3  # drifted, left, fresh


def test_versions_are_sorted_as_dpkg_does() -> None:
    ordered = [
        *("1.0~~", "1.0~~a", "1.0~", "1.0-0~1", "1.0", "1.0-1", "1.0-1+b1", "1.0-1+deb12u1", "1.0-1.1", "1.0-2"),
        *("1.0a", "1.0+dfsg-1", "1.0.1", "1.9", "1.10", "9.99", "1:0.1", "2:0", "10:0"),
    ]
    for number, version in enumerate(ordered):
        assert [versions.is_older(version, other) for other in ordered] == [n > number for n in range(len(ordered))]
    assert not versions.is_older("1.0", "1.0-0")
    assert not versions.is_older("1.0-0", "1.0")


def test_whose_info_files_are() -> None:
    stems = {"libc6:amd64": "libc6", "hello": "hello"}
    assert changes.whose("/var/lib/dpkg/info/libc6:amd64.list", stems) == "libc6"
    assert changes.whose("/var/lib/dpkg/info/hello.postinst", stems) == "hello"
    assert changes.whose("/var/lib/dpkg/info/format", stems) == ""
    assert changes.whose("/usr/share/hello.list", stems) == ""
