"""PURE: text as roff source for the macros man(7); knows nothing of the tool."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What roff would read as something else, or print as another letter: groff_char(7), "Fundamental characters".
_ESCAPES = {
    "\\": r"\(rs",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    '"': r"\(dq",
}
_CODE = re.compile(r"`([^`\n]+)`")


def escaped(text: str) -> str:
    """A text that stands for itself, wherever in a line or an argument of a macro it is."""
    return "".join(_ESCAPES.get(c) or (c if c.isascii() else rf"\[u{ord(c):04X}]") for c in text)


def line(text: str) -> str:
    """A line of text, in which `this` is bold. It is no request, whatever it begins with."""
    parts = _CODE.split(" ".join(text.split()))
    shown = "".join(rf"\fB{escaped(part)}\fR" if number % 2 else escaped(part) for number, part in enumerate(parts))
    return rf"\&{shown}" if shown.startswith(".") else shown


def title(name: str, section: int, date: str, source: str, manual: str) -> str:
    """The first line of a page; in a date with escapes mandoc(1) does not find any."""
    words = (escaped(name), str(section), date, escaped(source), escaped(manual))
    return ".TH " + " ".join(f'"{word}"' for word in words)


def heading(text: str) -> str:
    """The title of a section."""
    return f'.SH "{escaped(text)}"'


def subheading(text: str) -> str:
    """The title of a part of a section."""
    return f'.SS "{escaped(text)}"'


def paragraphs(text: str) -> list[str]:
    """Paragraphs, which blank lines divide, as click reads them: lines below a "\\b" stay as they are."""
    lines = []
    for number, paragraph in enumerate(text.split("\n\n")):
        lines += [".PP"] if number else []
        first, _, rest = paragraph.partition("\n")
        lines += literal(rest.split("\n")) if first.strip() == "\b" else [line(paragraph)]
    return lines


def literal(lines: Iterable[str]) -> list[str]:
    """Lines as they are."""
    return [".nf", *(escaped(text) if not text.startswith(".") else rf"\&{escaped(text)}" for text in lines), ".fi"]


def entries(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Terms, each with what is said of it."""
    return [part for term, said in rows for part in (".TP", rf"\fB{escaped(term)}\fR", line(said) or r"\&")]
