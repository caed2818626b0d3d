"""PURE: text made safe for a terminal, and tables, sizes, dates and numbers for people; prints nothing.

Names, versions, command lines and texts come from environments and strangers: none of them may move the cursor, colour,
hide or reorder the tool's output, or forge a line of it. Two rules ensure that:

- A value in a line is written with `quoted`. Where that was forgotten, a `table` keeps
  each cell on its line.
- Only console.py prints, and it escapes everything that is not printable with `visible`, as a safety net.

What programs read (JSON, the path of `which`, the manifest of `freeze`, a patch, an archive) is exact to the byte in a
pipe or a file, as with git and ls; on a terminal it is escaped like everything else. Colours are added to text
that is already escaped.
"""

from __future__ import annotations

import time

from sysenv_ns import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Letters and marks to str.isprintable, but nothing to the eye: Unicode's Default_Ignorable_Code_Point.
_UNSEEN_RANGES = (range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0").union(*(map(chr, codes) for codes in _UNSEEN_RANGES))
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_COLOUR = "(\x1b\\[(?:0|1|3[1-6])m)"  # what click.style makes of the styles in use
_UNITS = ("B", "kB", "MB", "GB", "TB")


def harmless(text: str) -> bool:
    """Whether a text has only printable characters, and no newline."""
    return text.isprintable() and (text.isascii() or _UNSEEN.isdisjoint(text))


def is_text(data: bytes) -> bool:
    """Whether somebody can read these bytes."""
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def visible(text: str) -> str:
    """A text of lines with all unprintable characters escaped, except newlines and tabs."""
    if harmless(text) or harmless(text.replace("\n", "").replace("\t", "")):  # nearly always, of 100,000 lines
        return text
    return "\n".join("\t".join(map(line, parts.split("\t"))) for parts in text.split("\n"))


def line(text: str) -> str:
    """The same for a single line: newlines and tabs are escaped too. Idempotent."""
    return text if harmless(text) else "".join(letter if harmless(letter) else _escape(letter) for letter in text)


def quoted(value: str) -> str:
    """A value in a line: as it is, or in quotes with escapes if it could be mistaken for something else.

    Different values look different: a result that begins with a quote is always such a form.
    """
    if harmless(value) and not value.startswith('"') and "  " not in value and value == value.strip():
        return value
    return '"' + "".join(f"\\{letter}" if letter in '"\\' else line(letter) for letter in value) + '"'


def coloured(text: str) -> str:
    """`visible`, which leaves the tool's own colours."""
    import re  # for what has colours

    parts = re.split(_COLOUR, text)
    return "".join(part if index % 2 else visible(part) for index, part in enumerate(parts))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns, a line for each row; the last one is not padded."""
    rows = [row if harmless("".join(row)) else [*map(line, row)] for row in rows]
    form = "  ".join([f"{{:<{max(map(len, column))}}}" for column in zip(*rows, strict=True)])
    return "\n".join([form.format(*row).rstrip() for row in rows])


def size(number: int) -> str:
    """Bytes as people read them."""
    if number < 1000:
        return f"{number} B"
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit and value < 100 else f"{value:.0f} {_UNITS[unit]}"


def date(seconds: float) -> str:
    """A time since the epoch, in local time, to the minute; a dash for an unknown or impossible one."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else "-"
    except (ValueError, OverflowError, OSError):
        return "-"


def timestamp(seconds: float) -> str | None:
    """The same for programs, as ISO 8601 has it, in UTC: 2026-11-29T08:00:00Z."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def count(number: int, one: str, more: str = "") -> str:
    """A number with its noun: `1 file`, `2 files`; `more` is an irregular plural."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"


def arrow(old: str, new: str) -> str:
    """`old -> new`; only one of them if the other is missing."""
    return " -> ".join(value for value in (old, new) if value)


def _escape(letter: str) -> str:
    """`\\x1b` for a control character, `\\xff` for a byte that is no text, `\\u202e` for all others."""
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape, PEP 383
        code -= 0xDC00
    elif code >= 0x80:
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return _NAMED.get(letter) or f"\\x{code:02x}"
