"""Text differences, and names and lines that a terminal may have."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.diff import patch
from sysenv_ns.diff.changes import Change, Facts
from sysenv_ns.diff.patch import ContentPair

FILE = Facts("file", 0o644, 0, 0, 10)
_NAMES = st.binary(min_size=1).filter(lambda name: b"\0" not in name).map(os.fsdecode)
_TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "\x0c\n", "\x85", "\u2028\n", "\udcff\n", "end"])).map(
    "".join
)


def _lines(old: str | None, new: str | None) -> list[str]:
    kind = Change("/etc/a", "modified", None if old is None else FILE, None if new is None else FILE)
    return list(patch.lines(ContentPair(kind, old, new, False), "demo"))


def test_a_modified_file() -> None:
    assert _lines("a\nb\n", "a\nc") == [
        "/etc/a: modified\n",
        *("--- host/etc/a\n", "+++ demo/etc/a\n", "@@ -1,2 +1,2 @@\n"),
        *(" a\n", "-b\n", "+c\n\\ No newline at end of file\n"),
    ]


def test_added_and_deleted_files() -> None:
    assert _lines(None, "a\n")[:3] == ["/etc/a: new file, mode 0644\n", "--- /dev/null\n", "+++ demo/etc/a\n"]
    assert _lines("a\n", None)[:3] == ["/etc/a: deleted file\n", "--- host/etc/a\n", "+++ /dev/null\n"]
    assert _lines(None, "") == ["/etc/a: new file, mode 0644\n"]


def test_binary_files() -> None:
    lines = list(patch.lines(ContentPair(Change("/a", "modified", FILE, FILE), None, None, True), "demo"))
    assert lines == ["/a: modified\n", "Binary files host/a and demo/a differ\n"]


@given(_TEXTS, _TEXTS)
def test_every_line_of_both_sides_is_there(old: str, new: str) -> None:
    """With as much context as there is, what is kept and taken makes the one side, kept and added the other."""
    lines = "".join(_lines(old, new)).split("\n")[:-1]
    hunks = lines[next((n for n, line in enumerate(lines) if line.startswith("@@")), len(lines)) :]
    if old == new:
        assert hunks == []
    for side, text, sign in (("-", old, "+"), ("+", new, "-")):
        kept = [line[1:] for line in hunks if line[0] in f" {side}"]
        assert all(line in text.split("\n") for line in kept)
        changed = [line[1:] for line in hunks if line[0] == side]
        other = [line[1:] for line in hunks if line[0] == sign]
        assert changed or other or old == new


@pytest.mark.parametrize(("old", "new"), [("a\nb\nc", "a\nx\nc"), ("a\n", "a"), ("\x0c\n\x85\n", "\x0c\n"), ("", "a")])
def test_patch_takes_it(tmp_path: Path, old: str, new: str) -> None:
    target = tmp_path / "etc" / "a"
    target.parent.mkdir()
    target.write_text(old, encoding="utf-8", newline="")
    try:
        command = ["patch", "-p1", "--binary", "-d", str(tmp_path)]
        subprocess.run(command, input="".join(_lines(old, new)).encode(), check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no patch")
    assert target.read_bytes().decode() == new


@given(_NAMES)
def test_quoted_names_stay_on_their_line_and_can_be_read_back(name: str) -> None:
    quoted = patch.quoted(name)
    assert quoted.isprintable()
    if quoted.startswith('"'):
        named = {"n": b"\n", "t": b"\t", "r": b"\r", '"': b'"', "\\": b"\\"}
        parts = re.findall(r'\\([0-7]{3})|\\([ntr"\\])|([^\\])', quoted[1:-1])
        found = b"".join(bytes([int(o, 8)]) if o else named[e] if e else c.encode() for o, e, c in parts)
        assert found == os.fsencode(name)
    else:
        assert quoted == name


def test_plain_names_are_not_quoted() -> None:
    for name in ("/usr/lib/systemd/system/dev-disk-by\\x2did.swap", "/etc/ä b", "/a'b"):
        assert patch.quoted(name) == name
    assert patch.quoted("/a\nb\x1b\udcff") == '"/a\\nb\\033\\377"'
