"""The manual pages: one for each verb, with all its options; roff that shows the text as it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import manual
import pytest
import roff
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns import verbs

_CHECKOUT = Path(__file__).resolve().parents[2]
_PAGES = manual.pages()
_MACROS = {"TH", "SH", "SS", "PP", "TP", "RS", "RE", "nf", "fi"}
_TEXTS = st.text(st.characters(exclude_categories=("C", "Z")) | st.sampled_from(" .'\\-`~^\""), max_size=40)


def _plain(text: str) -> str:
    """A page as a reader sees it, without its macros."""
    text = re.sub(r"\\f[BRI]|\\&", "", text)
    text = re.sub(r"\\\[u([0-9A-F]+)\]", lambda found: chr(int(found[1], 16)), text)
    for letter, escape in roff._ESCAPES.items():
        text = text.replace(escape, "\0" if letter == "\\" else letter)
    return text.replace("\0", "\\")


def _words(text: str) -> str:
    return " ".join(text.split())


def _commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from _commands(inner)


def test_there_is_a_page_for_the_tool_and_for_each_verb() -> None:
    assert set(_PAGES) == {"sysenv-ns.1", *(f"sysenv-ns-{name}.1" for name in verbs.NAMES)}
    page = _plain(_PAGES["sysenv-ns.1"])
    assert [name for name in verbs.NAMES if f"\nsysenv-ns-{name}(1)\n" not in page] == []
    for title in ("EXIT STATUS", "VARIABLES", "FILES"):
        assert re.search(rf'^\.SH "{title}"\n\.TP\n', _PAGES["sysenv-ns.1"], re.MULTILINE), title


@pytest.mark.parametrize("verb", verbs.NAMES)
def test_a_page_has_all_that_help_says(verb: str) -> None:
    page = _plain(_PAGES[f"sysenv-ns-{verb}.1"])
    words = _words(page)
    for command in _commands(verbs.load(verb)):
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                term = f"\n.TP\n{', '.join(sorted(parameter.opts, key=len))}"
                assert term in page
                assert _words(parameter.help or "").replace("`", "") in words
        assert _words((command.help or "").replace("\b\n", "")).replace("`", "") in words.replace(".PP ", "")


@pytest.mark.parametrize("name", _PAGES)
def test_each_line_is_a_known_macro_or_text(name: str) -> None:
    for line in _PAGES[name].splitlines():
        assert line
        assert not line.startswith("'")
        assert not line.startswith(".") or re.split(r"[ ]", line[1:])[0] in _MACROS
        assert line.isascii()


@given(_TEXTS)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    assert _plain(roff.escaped(text)) == text
    shown = roff.line(text)
    assert _plain(shown) == re.sub(r"`([^`]+)`", r"\1", _words(text))
    assert not shown.startswith((".", "'"))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a `--flag` of it", r"a \fB\-\-flag\fR of it"),
        (".so /etc/passwd", r"\&.so /etc/passwd"),
        ("it's C:\\new", r"it\(aqs C:\(rsnew"),
        ("caf\u00e9", r"caf\[u00E9]"),
    ],
)
def test_escapes(text: str, source: str) -> None:
    assert roff.line(text) == source


def test_the_programs_of_manuals_have_nothing_to_say_of_them(tmp_path: Path) -> None:
    """groff warns of what it does not know; where it is not installed, the test of all lines has to do."""
    for name, text in _PAGES.items():
        (tmp_path / name).write_text(text)
    for lint in (["groff", "-man", "-ww", "-z", "-Tutf8"], ["mandoc", "-T", "lint", "-W", "warning"]):
        if shutil.which(lint[0]):
            result = subprocess.run([*lint, *sorted(tmp_path.iterdir())], capture_output=True, text=True, check=False)
            assert (result.stdout + result.stderr) == ""


def test_the_pages_are_the_same_each_time(tmp_path: Path) -> None:
    for epoch, date in (("0", "1970-01-01"), ("", "")):
        made = []
        for number in range(2):
            directory = tmp_path / f"{date}-{number}"
            variables = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "SOURCE_DATE_EPOCH": epoch}
            subprocess.run([_CHECKOUT / "helpers" / "manual", directory], env=variables, check=True)
            made.append({path.name: path.read_text() for path in directory.iterdir()})
        assert made[0] == made[1]
        assert set(made[0]) == set(_PAGES)
        assert made[0]["sysenv-ns.1"].startswith(f'.TH "SYSENV\\-NS" "1" "{date}" ')
