"""Desktop entries: what they start, and what becomes of them for a wrapper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.home import desktop

ENTRY = """\
#!/usr/bin/env xdg-open
[Desktop Entry]
Type=Application
Name=Viewer
Name[de]=Betrachter
Exec=/usr/bin/viewer --new %U
TryExec=/usr/bin/viewer
Path=/opt/viewer
DBusActivatable=true
Icon=viewer
Actions=window;other;../x;
X-Made-Up=1

[Desktop Action window]
Name=New window
Icon=/etc/passwd
Exec=viewer --window "a b"

[Desktop Action other]
Name=Other
Exec=xterm -e viewer
"""

REWRITTEN = """\
# Made by sysenv-ns.
[Desktop Entry]
Type=Application
Name=Viewer
Name[de]=Betrachter
Exec=/home/you/bin/viewer --new %U
TryExec=/home/you/bin/viewer
Icon=sysenv-ns-proj-viewer
Actions=window;

[Desktop Action window]
Name=New window
Exec=/home/you/bin/viewer --window "a b"
"""


def _is_viewer(program: str) -> bool:
    return program in ("viewer", "/usr/bin/viewer")


def test_an_entry_for_a_wrapper() -> None:
    groups = desktop.parse(ENTRY)
    assert (desktop.program(groups), desktop.icon(groups)) == ("/usr/bin/viewer", "viewer")
    assert desktop.rewritten(groups, _is_viewer, "/home/you/bin/viewer", "sysenv-ns-proj-viewer") == REWRITTEN


def test_an_odd_place_of_the_wrapper() -> None:
    text = desktop.rewritten(desktop.parse(ENTRY), _is_viewer, '/home/a "b" 5%/$c\\d', None)
    (line,) = [line for line in text.splitlines() if line.startswith("Exec=") and line.endswith("%U")]
    assert desktop.split_command(line[5:]) == ['/home/a "b" 5%%/$c\\d', "--new", "%U"]
    assert "Icon=" not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[Desktop Entry]\n",
        "[Desktop Entry]\nExec=x\n",
        "[Desktop Entry]\nType=Link\nExec=x\n",
        "[Desktop Entry]\nType=Application\nHidden=true\nExec=x\n",
        "[Desktop Entry]\nType=Application\nExec=\n",
        '[Desktop Entry]\nType=Application\nExec="x\n',
        "[Other]\nType=Application\nExec=x\n",
        "Type=Application\nExec=x\n",
    ],
)
def test_what_starts_nothing(text: str) -> None:
    assert desktop.program(desktop.parse(text)) is None


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        ("a  b", ["a", "b"]),
        ('"a b" c', ["a b", "c"]),
        (r'"a \\$b \\"c\\""', ['a $b "c"']),
        (r"a\sb", ["a", "b"]),
        ('a"b', []),
        ('"a"b', []),
    ],
)
def test_values_of_exec(value: str, arguments: list[str]) -> None:
    assert desktop.split_command(value) == arguments


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1))
def test_arguments_survive(arguments: list[str]) -> None:
    value = desktop.join_command(arguments)
    assert "\n" not in value
    assert desktop.split_command(value) == arguments


@given(st.text())
def test_any_text_is_an_entry_or_none(text: str) -> None:
    groups = desktop.parse(text)
    if desktop.program(groups) is not None:
        desktop.rewritten(groups, lambda program: True, "/x", None)
