"""debconf's databases, and what becomes of their entries."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysenv_ns.packages import debconf, merge

QUESTION = "Name: {}\nTemplate: {}\nValue: {}\nOwners: {}\nFlags: seen\nVariables:\n Owners: none = 1\n\n"


def _file(**questions: str) -> bytes:
    """From NAME="VALUE OWNER, ..."."""
    rows = ((name, *text.split(" ", 1)) for name, text in questions.items())
    return "".join(QUESTION.format(name, name, *row) for name, *row in rows).encode()


def _pick(owner: str, old: bool, new: bool, own: bool) -> bool:
    return merge.pick(old, new, own)


@pytest.mark.parametrize(
    ("old", "new", "own", "found"),
    [
        ("1 p", "1 p", "2 p", "2 p"),
        ("1 p", "2 p", "1 p", "2 p"),
        ("1 p", "2 p", "3 p", "3 p"),
        (None, "1 p", "2 q", "2 p, q"),  # of an unknown origin
        ("1 p", "2 p, host", "1 own, p", "2 host, own, p"),
        ("1 p", None, "1 p", None),
        ("1 p", None, "1 own, p", "1 own"),
        ("1 p", "1 p, q", None, "1 q"),
        ("1 p", None, "2 p", None),  # nobody asks any more
        (None, None, "1 p", "1 p"),
        (None, "1 p", None, "1 p"),
    ],
)
def test_a_question(old: str | None, new: str | None, own: str | None, found: str | None) -> None:
    sides = [debconf.parse(_file(a=text) if text else b"") for text in (old, new, own)]
    merged = debconf.merged(sides[0], sides[1], sides[2], _pick)
    assert debconf.written(merged) == (_file(a=found) if found else b"")


def test_an_entry_that_nobody_owns() -> None:
    entry = b"Name: a\nValue: 1\n\n"
    found = debconf.merged({}, debconf.parse(entry), {}, _pick)
    assert debconf.written(found) == entry


def test_the_order_is_that_of_the_names() -> None:
    assert debconf.written(debconf.parse(_file(b="1 p", a="2 q"))) == _file(a="2 q", b="1 p")


@pytest.mark.skipif(not Path(debconf.TEMPLATES).exists(), reason="no debconf here")
@pytest.mark.parametrize("path", [debconf.QUESTIONS[0], debconf.TEMPLATES])
def test_the_systems_own_come_back_byte_by_byte(path: str) -> None:
    data = Path(path).read_bytes()
    assert debconf.written(debconf.parse(data)) == data
