"""PURE: a recorded terminal session (asciicast v2) as an animated SVG; runs no session and reads no files.

Only what a session that does not fill the screen does to a terminal is understood: text, carriage returns, backspaces,
erasing to the end of the line, colours. Everything else is passed over. Lines do not scroll: all of them are shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

_ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([@-~])|\x1b\].*?(?:\x07|\x1b\\)|\x1b[()][0-9A-B]|\x1b[=>78M]", re.DOTALL)
_COLOURS = ("#6e7681", "#ff7b72", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#e6edf3")
_BACKGROUND, _TEXT = "#0d1117", "#e6edf3"
_WIDTH, _HEIGHT, _BORDER = 8.4, 19, 14  # pixels: of a letter at 14 px, of a line, around all
_HOLD = 5.0  # seconds that the end stays


@dataclass(frozen=True)
class Style:
    """How a letter looks: one of the eight colours, or None for the usual one."""

    colour: int | None = None
    bold: bool = False


@dataclass(frozen=True)
class Piece:
    """Letters of a line that look the same and appeared at the same moment (seconds)."""

    row: int
    column: int
    text: str
    style: Style
    time: float


@dataclass(frozen=True)
class Recording:
    """What happened: the output with the moments (seconds) at which it came."""

    width: int
    events: tuple[tuple[float, str], ...]

    @classmethod
    def parse(cls, text: str) -> Recording:
        """An asciicast of version 2. No pause is longer than its idle_time_limit. Raises ValueError."""
        header, *lines = (json.loads(line) for line in text.splitlines() if line.strip())
        if not isinstance(header, dict) or header.get("version") != 2:
            raise ValueError("not an asciicast of version 2")
        limit = float(header.get("idle_time_limit", "inf"))
        now = before = 0.0
        events = []
        for time, kind, data in lines:
            now += min(time - before, limit)
            before = time
            if kind == "o":
                events.append((now, data))
        return cls(int(header["width"]), tuple(events))


class _Screen:
    def __init__(self, width: int) -> None:
        self._width = width
        self._row = self._column = 0
        self._style = Style()
        self.rows: list[dict[int, tuple[str, Style, float]]] = [{}]

    def write(self, text: str, time: float) -> None:
        position = 0
        while position < len(text):
            if found := _ESCAPE.match(text, position):
                self._control(found[2] or "", found[1] or "")
                position = found.end()
            else:
                self._letter(text[position], time)
                position += 1

    def _control(self, kind: str, parameters: str) -> None:
        if kind == "m":
            for number in map(int, (parameters or "0").split(";")):
                self._colour(number)
        elif kind == "K" and parameters in ("", "0"):
            row = self.rows[self._row]
            for column in [c for c in row if c >= self._column]:
                del row[column]

    def _colour(self, number: int) -> None:
        if number == 0:
            self._style = Style()
        elif number == 1:
            self._style = Style(self._style.colour, True)
        elif 30 <= number <= 37 or 90 <= number <= 97:
            self._style = Style(number % 10, self._style.bold)

    def _letter(self, letter: str, time: float) -> None:
        if letter == "\r":
            self._column = 0
        elif letter == "\n":
            self._next_row()
        elif letter == "\b":
            self._column = max(self._column - 1, 0)
        elif letter >= " ":
            if self._column == self._width:
                self._column = 0
                self._next_row()
            self.rows[self._row][self._column] = (letter, self._style, time)
            self._column += 1

    def _next_row(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append({})


def pieces(recording: Recording) -> tuple[Piece, ...]:
    """What is on the screen at the end, with the moment at which each part of it appeared."""
    screen = _Screen(recording.width)
    for time, data in recording.events:
        screen.write(data, time)
    return tuple(piece for number, row in enumerate(screen.rows) for piece in _joined(number, row))


def _joined(number: int, row: dict[int, tuple[str, Style, float]]) -> Iterator[Piece]:
    current: Piece | None = None
    for column, (letter, style, time) in sorted(row.items()):
        if current and (current.style, current.time) == (style, time) and current.column + len(current.text) == column:
            current = Piece(number, current.column, current.text + letter, style, time)
            continue
        if current:
            yield current
        current = Piece(number, column, letter, style, time)
    if current:
        yield current


def svg(recording: Recording, title: str, at: float | None = None) -> str:
    """The session as an animation that begins anew by itself, or as it is `at` a moment (seconds).

    Without animation (a printer, a renderer of still pictures) it shows the end.
    """
    shown = [piece for piece in pieces(recording) if at is None or piece.time <= at]
    rows = max((piece.row for piece in pieces(recording) if piece.text.strip()), default=0) + 1
    width, height = recording.width * _WIDTH + 2 * _BORDER, rows * _HEIGHT + 2 * _BORDER
    duration = max((time for time, _ in recording.events), default=0.0) + _HOLD
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}">',
        f"<title>{escape(title)}</title>",
        f"<style>text{{font:14px 'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:{_TEXT};white-space:pre}}</style>",
        f'<rect width="100%" height="100%" rx="8" fill="{_BACKGROUND}"/>',
    ]
    if at is None:  # what times all others; it shows nothing itself
        animation = f'<animate id="loop" attributeName="x" dur="{duration:.2f}s" begin="0s;loop.end" values="0;0"/>'
        lines.append(f'<rect width="0" height="0">{animation}</rect>')
    lines += [_drawn(piece, at is None) for piece in shown if piece.text.strip() and piece.row < rows]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _drawn(piece: Piece, animated: bool) -> str:
    x, y = _BORDER + piece.column * _WIDTH, _BORDER + piece.row * _HEIGHT + 14
    colour = f"fill:{_COLOURS[piece.style.colour]};" if piece.style.colour is not None else ""
    look = colour + ("font-weight:bold" if piece.style.bold else "")  # a style: attributes yield to the sheet
    look = f' style="{look}"' if look else ""
    length = f' textLength="{len(piece.text) * _WIDTH:.1f}"' if len(piece.text) > 1 else ""
    hidden = ""
    if animated and piece.time >= 0.01:  # a duration of 0 would be none at all
        hidden = f'<set attributeName="visibility" to="hidden" begin="loop.begin" dur="{piece.time:.2f}s"/>'
    return f'<text x="{x:.1f}" y="{y}"{look}{length} xml:space="preserve">{escape(piece.text)}{hidden}</text>'
