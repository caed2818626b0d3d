"""The picture of a session in a terminal: what is on the screen, since when; the shipped one is of its recording."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from recording import Piece, Recording, Style, pieces, svg

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_PLAIN = Style()


def _shown(*events: tuple[float, str], width: int = 20) -> list[tuple[int, int, str]]:
    return [(p.row, p.column, p.text) for p in pieces(Recording(width, events))]


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("one\r\ntwo", [(0, 0, "one"), (1, 0, "two")]),
        ("5%\r100%\r\n", [(0, 0, "100%")]),
        ("abc\b\b\x1b[K", [(0, 0, "a")]),
        ("\x1b]0;title\x07\x1b[?2004htext\x1b[?2004l", [(0, 0, "text")]),
        ("a" * 25, [(0, 0, "a" * 20), (1, 0, "a" * 5)]),
    ],
)
def test_what_is_on_the_screen(output: str, shown: list[tuple[int, int, str]]) -> None:
    assert _shown((0.0, output)) == shown


def test_a_letter_appears_when_it_was_written_last() -> None:
    recording = Recording(20, ((1.0, "10%"), (2.0, "\r90%"), (3.0, "\x1b[1;32m!\x1b[0m")))
    assert pieces(recording) == (Piece(0, 0, "90%", _PLAIN, 2.0), Piece(0, 3, "!", Style(2, True), 3.0))


def test_pauses_are_shortened() -> None:
    text = (
        '{"version": 2, "width": 9, "height": 9, "idle_time_limit": 2}\n[1, "o", "a"]\n[60, "i", "x"]\n[61, "o", "b"]\n'
    )
    assert Recording.parse(text).events == ((1.0, "a"), (4.0, "b"))


def test_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2"):
        Recording.parse('{"version": 1}\n')


def test_markup_in_a_session_is_text() -> None:
    root = ElementTree.fromstring(svg(Recording(30, ((1.0, "<a href='x'>&"),)), "<t>"))
    assert "".join(root.itertext()).strip().endswith("<a href='x'>&")


def test_a_still_picture_has_what_was_there_by_then() -> None:
    recording = Recording(20, ((1.0, "early\r\n"), (5.0, "late")))
    assert "early" in svg(recording, "t", at=2.0)
    assert "late" not in svg(recording, "t", at=2.0)
    assert "<set" not in svg(recording, "t", at=9.0)


def test_the_shipped_picture_is_that_of_its_recording() -> None:
    recording = Recording.parse((_DOCS / "transcript.cast").read_text())
    assert svg(recording, "A session with sysenv-ns") == (_DOCS / "transcript.svg").read_text()
