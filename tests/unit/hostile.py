"""Strings that an enemy would choose as names, versions, command lines and texts."""

from __future__ import annotations

from hypothesis import strategies as st

FORGED = "FORGED LINE"

NASTY = (
    "a\x1b[31mb\x1b[2J",
    "\x1b]0;title\x07",
    "\x1bP+q544e\x1b\\",
    "\x9b31m\x9d0;t\x9c",
    "back\b\b\b\bspace\x7f",
    "over\rwritten",
    f"two\n{FORGED}",
    f"tab\t{FORGED}",
    f"up\x0b{FORGED}\x0c{FORGED}\x85{FORGED}\u2028{FORGED}\u2029{FORGED}\x1c{FORGED}",
    "\u202etxt.exe\u202c",
    "\u2066isolated\u2069",
    "zero\u200bwidth\ufeff\u00ad\u3164\ufe0f",
    "no text \udcff\udc9b",
    "lone \ud800",
    "\x00",
    "tag \U000e0041",
    '"quoted\\x1b',
)
NASTY_TEXTS = st.lists(st.sampled_from([*NASTY, "a", '"', "\\", " "])).map("".join)


def harmless(text: str, tabs: bool = False) -> bool:
    """Whether nothing but printable characters and newlines is in a text, and no name has made a line of its own."""
    letters = "\n\t" if tabs else "\n"
    forged = [line for line in text.split("\n") if line.lstrip(" |").startswith(FORGED)]
    return not forged and all(letter.isprintable() or letter in letters for letter in text)
