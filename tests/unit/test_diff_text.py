"""What diff prints."""

from __future__ import annotations

import json

from sysenv_ns import console
from sysenv_ns.diff.changes import Change, Facts, PackageChange
from sysenv_ns.diff.difference import Difference
from sysenv_ns.diff.patch import ContentPair
from sysenv_ns.verbs import diff

FILE = Facts("file", 0o644, 0, 0, 1500)
DIRECTORY = Facts("directory", 0o755, 0, 0)
LINK = Facts("symlink", 0o777, 0, 0)

DIFFERENCE = Difference(
    "demo",
    (PackageChange("hello", "added", "", "2"), PackageChange("old", "upgraded", "1", "2")),
    (
        Change("/etc/bashrc", "modified", FILE, FILE._replace(size=2), package="bash"),
        Change("/etc/\udcff\n", "added", None, LINK),
        Change("/opt/new", "added", None, DIRECTORY),
        Change("/opt/new/a", "added", None, DIRECTORY),
        Change("/opt/new/a/b", "added", None, FILE),
        Change("/usr/bin/hello", "added", None, FILE, package="hello"),
        Change("/usr/share/gone", "deleted", DIRECTORY, None),
        Change("/usr/share/type", "type", DIRECTORY, LINK),
        Change("/usr/share/x", "metadata", FILE, FILE._replace(mode=0o600), ("mode",)),
        Change("/var/cache/x", "added", None, FILE, fold="cache"),
        Change("/var/log/x", "added", None, FILE, fold="log"),
    ),
    ("a note",),
)
_PACKAGES = "added     hello  2       1 file  1.5 kB\nupgraded  old    1 -> 2\n"


def _plain(text: str, colour: str) -> str:
    return text


def test_summary() -> None:
    assert diff.summary(DIFFERENCE, False, _plain) == (
        f"Packages\n{_PACKAGES}\n"
        "Files of bash\nmodified  /etc/bashrc  1.5 kB -> 2 B\n\n"
        "Files of no package\n"
        'added         "/etc/\\377\\n"     symlink\n'
        "added         /opt/new/         1 file, 1.5 kB\n"
        "deleted       /usr/share/gone/\n"
        "type changed  /usr/share/type   directory -> symlink\n"
        "metadata      /usr/share/x      mode 0644 -> 0600\n\n"
        "not shown without --all: caches (1 file, 1.5 kB), logs (1 file, 1.5 kB)"
    )
    everything = diff.summary(DIFFERENCE, True, _plain)
    assert "/var/cache/x" in everything
    assert "not shown" not in everything


def test_files() -> None:
    lines = diff.files(DIFFERENCE, False, _plain).splitlines()
    assert len(lines) == 10
    assert "added         /usr/bin/hello    1.5 kB                (hello)" in lines
    assert diff.files(DIFFERENCE, True, _plain).splitlines()[-1].startswith("added         /var/log/x")


def test_packages() -> None:
    assert diff.packages(DIFFERENCE, _plain) == _PACKAGES.strip()


def test_nothing() -> None:
    nothing = Difference("demo", (), ())
    assert diff.summary(nothing, False, _plain) == ""
    assert diff.files(nothing, True, _plain) == ""


def test_json_keeps_all() -> None:
    data = json.loads("".join(console.json_pieces(diff.as_data(DIFFERENCE))))
    assert [change["path"] for change in data["changes"]] == [change.path for change in DIFFERENCE.changes]
    assert data["changes"][8] == {
        "path": "/usr/share/x",
        "kind": "metadata",
        "old": {"type": "file", "mode": "0644", "uid": 0, "gid": 0, "size": 1500},
        "new": {"type": "file", "mode": "0600", "uid": 0, "gid": 0, "size": 1500},
        "metadata": ["mode"],
        "package": "",
        "fold": "",
    }
    assert data["packages"][0] == {"name": "hello", "kind": "added", "old": "", "new": "2"}
    assert data["notes"] == ["a note"]


def test_colours_are_those_of_the_lines() -> None:
    def paint(text: str, colour: str) -> str:
        return f"<{colour}>{text}" if colour else text

    contents = [ContentPair(DIFFERENCE.changes[0], "a\n-- b\x1b\n", "a\n", False)]
    assert diff.patches(contents, "demo", paint) == (
        "<bold>/etc/bashrc: modified\n<bold>--- host/etc/bashrc\n<bold>+++ demo/etc/bashrc\n<cyan>@@ -1,2 +1 @@\n"
        " a\n<red>--- b\\x1b\n"
    )
    assert "\n--- b\x1b\n" in diff.patches(contents, "demo")
    assert diff.packages(DIFFERENCE, paint).startswith("<green>added ")
