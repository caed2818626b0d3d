"""documents.py: whatever is given, it is what it says, or a ValueError of one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns import decoding, documents


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": 1, "a": 2}',
        b"NaN",
        b"[Infinity]",
        b"1" * 5000,
        b"-" + b"1" * 5000,
        b'"\xff"',
        b'"\xed\xa0\x80"',  # UTF-8 of half a character
        "1".encode("utf-16"),
        b"",
        b"\0",
        b"{} {}",
    ],
)
def test_what_is_no_json_is_a_value_error_of_one_sentence(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^.{5,100}$"):
        documents.parse_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b"a = " + b"[" * 100_000,
        b"a" + b".a" * 50_000 + b"= 1",
        b"['a' . " + b'"b" .' * 999,
        b"a = " + b"1" * 5000,
        b"a = \xff",
        b"a",
        b"a=1\na=2",
    ],
)
def test_what_is_no_toml_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^.{5,100}$"):
        documents.parse_toml(data)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert documents.parse_json(json.dumps({"it": value})) == {"it": value}


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (documents.mapping, [{}], [[], None, 1, "x"]),
        (documents.sequence, [[], [1]], [{}, None, "x", [0] * 100_001]),
        (documents.text, ["", "x", "\U0001f600"], [None, 1, b"x", "\0", "\ud800", "\udcff", "x" * 4097]),
        (documents.name, ["", "x", "\udcff"], [None, 1, "\0", "\ud800", "x" * 4097]),
        (documents.integer, [0, 1, (1 << 63) - 1], [True, -1, 1 << 63, 10**4000, 1.0, "1", None]),
        (documents.number, [0, 1.5, -3], [True, "1", None, 10**400, float("inf"), float("nan")]),
        (documents.flag, [True, False], [0, 1, None, "true"]),
    ],
)
def test_fields_are_of_their_type_and_in_their_bounds(check: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert check(value, "it") == value
    for value in bad:
        with pytest.raises(ValueError, match=r"^it .{5,60}$"):
            check(value, "it")


def test_a_field_that_is_missing_is_named() -> None:
    assert documents.field({"a": "x"}, "a", documents.text) == "x"
    with pytest.raises(ValueError, match=r"^b is missing$"):
        documents.field({"a": "x"}, "b", documents.text)


@pytest.mark.parametrize(
    ("digits", "number"),
    [("0", 0), ("007", 7), ("4294967295", 4294967295), ("4294967296", None), ("9" * 5000, None), ("0" * 5000, 0)]
    + [(wrong, None) for wrong in ("", "-1", "+1", "1_0", " 1", "\u0661", "\xb2", "x")],
)
def test_numbers_of_accounts_are_bounded_whatever_their_digits(digits: str, number: int | None) -> None:
    assert documents.decimal(digits) == number


class _Pair(NamedTuple):
    name: str
    kind: Literal["one", "other"]


@dataclass(frozen=True)
class _Part:
    numbers: tuple[int, ...]
    pair: _Pair | None = None


@dataclass(frozen=True)
class _Whole:
    parts: Mapping[str, _Part]
    content: bytes
    names: frozenset[str]
    row: tuple[str, bool]
    anything: object = None


_WHOLE = _Whole(
    {"a": _Part((1, 2), _Pair("\udcff", "one")), "b": _Part(())}, bytes(range(256)), frozenset("xy"), ("", True)
)
_NO_PARTS: tuple[object, ...] = (None, [], {"a": None}, {"a": {}}, {"a": {"numbers": [], "more": 1}})
_NO_NUMBERS: tuple[object, ...] = (None, 1, "12", [True], [1.0], ["1"], {"1": 2})
_NO_PAIRS: tuple[object, ...] = ([], ["a"], ["a", "none"], ["a", "one", 1], "ab")


def _sent(value: object) -> Any:
    return json.loads(json.dumps(value, default=documents.as_data))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (_Whole, _WHOLE),
        (_Part, _Part((3,))),
        (tuple[_Part, ...], (_Part((3,)), _Part(()))),
        (dict[str, bytes], {"a": b"\xff"}),
        (NoneType, None),
        (int, 3),
    ],
)
def test_what_is_sent_is_what_arrives(kind: type[object], value: object) -> None:
    found = decoding.from_data(kind, _sent(value))
    assert found == value
    assert type(found) is type(value)


def test_fields_with_a_default_may_be_missing() -> None:
    assert decoding.from_data(_Part, {"numbers": [1]}) == _Part((1,))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("parts", value) for value in _NO_PARTS),
        *(("parts", {"a": {"numbers": value}}) for value in _NO_NUMBERS),
        *(("parts", {"a": {"numbers": [], "pair": value}}) for value in _NO_PAIRS),
        *(("content", value) for value in (None, 1, "\u0100", ["a"])),
        *(("names", value) for value in (None, "xy", [1], [None])),
        *(("row", value) for value in (None, [], ["", 1], ["", True, 2], "ab")),
    ],
)
def test_what_is_of_another_type_is_refused(key: str, value: object) -> None:
    data = _sent(_WHOLE)
    assert decoding.from_data(_Whole, data) == _WHOLE
    with pytest.raises(ValueError, match=r"is not|has "):
        decoding.from_data(_Whole, {**data, key: value})
    del data[key]
    with pytest.raises(ValueError, match="unknown fields"):
        decoding.from_data(_Whole, data)


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "[1,", '"a', "[1] 2"])
def test_what_is_wrong_is_told_by_a_process_that_has_not_imported_json(text: str) -> None:
    script = f"""
import sys
sys.path.append({os.path.dirname(os.path.dirname(documents.__file__))!r})
from sysenv_ns import documents
assert "json" not in sys.modules
try:
    documents.parse_json({text!r})
except ValueError as error:
    print(error)
"""
    said = subprocess.run((sys.executable, "-I", "-S", "-c", script), capture_output=True, text=True, check=True).stdout
    assert said.endswith(" at line 1\n")
