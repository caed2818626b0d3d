"""Which package owns a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysenv_ns.diff import owners
from sysenv_ns.diff.owners import Lists
from sysenv_ns.packages import dpkg
from sysenv_ns.packages.dpkg import Diversion

_STATUS = b"""\
Package: dpkg
Status: install ok installed
Architecture: amd64

Package: libx
Status: install ok installed
Architecture: amd64
Multi-Arch: same

Package: libx
Status: install ok installed
Architecture: i386
Multi-Arch: same

Package: tool
Status: install ok installed
Architecture: all
"""


def _side(path: Path, lists: dict[str, list[str]], *diversions: Diversion) -> Lists:
    path.mkdir()
    for stem, paths in lists.items():
        (path / stem).write_text("".join(f"{name}\n" for name in ("/.", *paths)))
    contents = {stem: (path / stem).read_bytes for stem in lists}
    return Lists(dpkg.parse_status(_STATUS), {d.path: d for d in diversions}, contents)


def test_names_of_packages_and_of_directories(tmp_path: Path) -> None:
    listed = {
        "libx:amd64": ["/lib/x.so", "/usr/share/x"],
        "libx:i386": ["/lib/i386/x.so"],
        "tool": ["/usr/bin/a\udcff"],
    }
    side = _side(tmp_path / "host", {stem: paths for stem, paths in listed.items() if stem != "tool"})
    (tmp_path / "host" / "tool").write_bytes(b"/usr/bin/a\xff\n")
    side = Lists(side.packages, {}, {**side.contents, "tool": (tmp_path / "host" / "tool").read_bytes})
    paths = ["/usr/lib/x.so", "/usr/lib/i386/x.so", "/usr/share/x", "/usr/share/x/y", "/usr/bin/a\udcff"]
    assert owners.owners(paths, [side], {"/lib": "/usr/lib"}) == {
        "/usr/lib/x.so": "libx",
        "/usr/lib/i386/x.so": "libx:i386",
        "/usr/share/x": "libx",
        "/usr/bin/a\udcff": "tool",
    }


def test_the_environments_lists_come_first(tmp_path: Path) -> None:
    own = _side(tmp_path / "own", {"tool": ["/usr/bin/taken"]})
    host = _side(tmp_path / "host", {"libx:amd64": ["/usr/bin/taken", "/usr/bin/left"]})
    assert owners.owners(["/usr/bin/taken", "/usr/bin/left"], [own, host], {}) == {
        "/usr/bin/taken": "tool",
        "/usr/bin/left": "libx",
    }


def test_diverted_files(tmp_path: Path) -> None:
    diversion = Diversion("/usr/bin/a", "/usr/bin/a.distrib", "tool")
    side = _side(tmp_path / "host", {"tool": ["/usr/bin/a"], "libx:amd64": ["/usr/bin/a"]}, diversion)
    found = owners.owners(["/usr/bin/a", "/usr/bin/a.distrib"], [side], {})
    assert found == {"/usr/bin/a": "tool", "/usr/bin/a.distrib": "libx"}


def test_large_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no list knows is not looked for in all of them; other names and diversions are known too."""
    monkeypatch.setattr(owners, "_MANY", 2)
    listed = {"libx:amd64": ["/lib/x/1", "/lib/x/2"], "tool": ["/opt/t/in/1", "/usr/bin/a"]}
    side = _side(tmp_path / "host", listed, Diversion("/usr/bin/a", "/srv/new/moved", "dpkg"))
    wanted = {"/usr/lib/x/1": "libx", "/usr/lib/x/2": "libx", "/opt/t/in/1": "tool", "/srv/new/moved": "tool"}
    strange = ["/opt", "/opt/s", "/opt/s-not", "/opt/s/1", "/opt/s/2", "/opt/t", "/opt/t/in", "/opt/t/in/2", "/opt/t/2"]
    paths = [*wanted, *strange, "/usr", "/usr/lib", "/usr/lib/x", "/srv/new", "/srv/new/1", "/srv/new/2"]
    assert owners.owners(paths, [side], {"/lib": "/usr/lib"}) == wanted
    assert owners._without_strange(sorted(strange), side, {}) == sorted({*strange} - {"/opt/s/1", "/opt/s/2"})


def test_info_files(tmp_path: Path) -> None:
    side = _side(tmp_path / "host", {})
    paths = ["/var/lib/dpkg/info/libx:i386.list", "/var/lib/dpkg/info/absent.list"]
    assert owners.owners(paths, [side], {}) == {paths[0]: "libx:i386"}
