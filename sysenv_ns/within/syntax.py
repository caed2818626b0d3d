"""PURE: the words of a setting, with quotes and escapes as systemd.syntax(7) says."""

from __future__ import annotations

import re

from sysenv_ns.within.units import OrderError

_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|([0-7]{3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([abfnrtvs\\\"']))")
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}


def words(text: str) -> list[str]:
    """Raises OrderError where a quote is not closed."""
    found: list[str] = []
    word: str | None = None
    quote = ""
    place = 0
    while place < len(text):
        letter = text[place]
        escape = _ESCAPE.match(text, place)
        place = escape.end() if escape else place + 1
        if escape:
            word = (word or "") + _meaning(escape)
        elif letter == quote:
            quote = ""
        elif not quote and letter in "\"'":
            quote = letter
            word = word or ""
        elif not quote and letter.isspace():
            found += [] if word is None else [word]
            word = None
        else:
            word = (word or "") + letter
    if quote:
        raise OrderError(f"{text!r} cannot be read: a quote is not closed")
    return found if word is None else [*found, word]


def _meaning(escape: re.Match[str]) -> str:
    """Numbers of two or three digits are bytes, the others letters."""
    hexadecimal, octal, short, long, letter = escape.groups()
    if letter:
        return _LETTERS.get(letter, letter)
    if short or long:
        return chr(min(int(short or long, 16), 0x10FFFF))
    number = int(hexadecimal, 16) if hexadecimal else int(octal, 8) & 0xFF
    return bytes([number]).decode("utf-8", "surrogateescape")
