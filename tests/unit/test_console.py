"""What is shown as JSON: exact, and readable as lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns import console

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "version"), _VALUES, max_size=3))
def test_it_is_the_same_data(data: dict[str, object]) -> None:
    shown = "".join(console.json_pieces(data))
    assert json.loads(shown) == {"version": 1, **data}
    assert shown.isascii()
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, '{\n  "version": 1\n}'),
        ({"a": console.Encoded(iter(["1", "{}"]))}, '{\n  "version": 1,\n  "a": [\n    1,\n    {}\n  ]\n}'),
        ({"a": console.Encoded(["1"] * 9000)}, '{\n  "version": 1,\n  "a": [\n    ' + "1,\n    " * 8999 + "1\n  ]\n}"),
        ({"a": console.Encoded(iter([]))}, '{\n  "version": 1,\n  "a": []\n}'),
        (
            {"a": 1, "b": [], "c": ({"d": 2}, 3)},
            '{\n  "version": 1,\n  "a": 1,\n  "b": [],\n  "c": [\n    {"d": 2},\n    3\n  ]\n}',
        ),
    ],
)
def test_a_line_for_each_item(data: dict[str, object], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.show_json(data)
    assert capsys.readouterr().out == f"{text}\n"
