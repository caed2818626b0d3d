"""What a terminal may have."""

from __future__ import annotations

import ast
import unicodedata

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns import text

from .hostile import NASTY, NASTY_TEXTS

_OTHERS = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@pytest.mark.parametrize(
    ("letter", "shown"),
    [
        ("\x00", "\\x00"),
        ("\x07", "\\x07"),
        ("\x1b", "\\x1b"),
        ("\x7f", "\\x7f"),
        ("\r", "\\r"),
        ("\x85", "\\u0085"),
        ("\x9b", "\\u009b"),
        ("\udc85", "\\x85"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\u200b", "\\u200b"),
        ("\u200d", "\\u200d"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
        ("\u202e", "\\u202e"),
        ("\u2066", "\\u2066"),
        ("\u061c", "\\u061c"),
        ("\ufeff", "\\ufeff"),
        ("\u3164", "\\u3164"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_shown(letter: str, shown: str) -> None:
    assert text.visible(f"a{letter}b") == f"a{shown}b"
    assert text.line(letter) == shown
    assert text.quoted(letter) == f'"{shown}"'


def test_newlines_and_tabs_stay_where_the_tool_puts_them() -> None:
    assert text.visible("a\tb\nc\r\n") == "a\tb\nc\\r\n"
    assert text.line("a\tb\nc") == "a\\tb\\nc"
    assert text.quoted("a\nb") == '"a\\nb"'


@pytest.mark.parametrize("value", ["", "a b", "grüße", "日本", "sh -c \"x\" 'y'", "dev-disk-by\\x2did.swap", "e\u0301"])
def test_usual_values_are_as_they_are(value: str) -> None:
    assert text.quoted(value) == text.line(value) == text.visible(value) == value


@given(st.text() | NASTY_TEXTS)
def test_nothing_passes_that_is_not_printable(value: str) -> None:
    for shown in (text.line(value), text.quoted(value), *text.visible(value).replace("\t", "\n").split("\n")):
        assert shown.isprintable()
        assert text.harmless(shown)
        assert not [letter for letter in shown if unicodedata.category(letter) in _OTHERS]


@given(st.text() | NASTY_TEXTS)
def test_once_is_enough(value: str) -> None:
    assert text.line(text.line(value)) == text.line(value)
    assert text.visible(text.visible(value)) == text.visible(value)
    assert text.line(text.quoted(value)) == text.quoted(value)


@given(st.text() | NASTY_TEXTS)
def test_quoted_values_can_be_read_back(value: str) -> None:
    shown = text.quoted(value)
    if not shown.startswith('"'):
        assert shown == value
        return
    # A byte that is no text is \x80 to \xff, which is a letter to Python.
    found = ast.literal_eval(shown)
    assert found == "".join(chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c for c in value)


@pytest.mark.parametrize(
    ("one", "other"),
    [("\x1b", "\\x1b"), ("\x85", "\udc85"), ("a\n", "a\\n"), ("\x1b", '"\\x1b"'), ("\u202e", "\\u202e"), ("a ", "a")],
)
def test_different_values_look_different(one: str, other: str) -> None:
    assert text.quoted(one) != text.quoted(other)


@pytest.mark.parametrize("value", NASTY)
def test_colours_are_the_tools_own(value: str) -> None:
    for colour in ("red", "green", "yellow", "cyan"):
        painted = click.style(text.visible(value), fg=colour)
        assert text.coloured(painted) == painted
    assert text.coloured(click.style("a", bold=True)) == click.style("a", bold=True)
    assert text.coloured("\x1b[2J\x1b[8ma\x1b[30m\x1b]0;x\x07") == "\\x1b[2J\\x1b[8ma\\x1b[30m\\x1b]0;x\\x07"
