"""PURE: JSON and TOML that somebody else may have written, their fields within bounds, and dataclasses as JSON.

It opens no file.
Every error is a ValueError of one short sentence, which repeats nothing of the data.
"""

from __future__ import annotations

import math
from _json import encode_basestring_ascii, make_encoder, make_scanner

from sysenv_ns import TYPE_CHECKING, records
from sysenv_ns.basics import contextmanager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, NoReturn, TypeVar

    _T = TypeVar("_T")

_LONG_KEY = r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}"""
_TEXT = 4096  # characters: PATH_MAX
_ITEMS = 100_000
_GREATEST = (1 << 63) - 1
_GREATEST_ID = 0xFFFFFFFF
_SPACE = " \t\n\r"  # RFC 8259


def parse_json(data: bytes | str) -> Any:
    """The document. Raises ValueError, also for too deep nesting, duplicate keys, and numbers that are not finite."""
    with _in_one_sentence():
        text = _decoded(data).strip(_SPACE)
        try:
            value, end = _scan(text, 0)
        except (StopIteration, SystemError):  # the latter if it has an error to tell, and json is not imported
            end = None
        if end == len(text):
            return value
        import json  # to tell what is wrong

        return json.loads(_decoded(data), object_pairs_hook=_unique, parse_constant=_constant)


def json_of(value: object, default: Callable[[object], object] | None = None) -> str:
    """What json.dumps makes of it: `default` gives a form to values that JSON has none for, see `as_data`."""
    encode = make_encoder({}, default or _no_form, encode_basestring_ascii, None, ": ", ", ", False, False, True)
    return "".join(encode(value, 0))


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """The same for TOML."""
    import re  # both are slow, and rarely needed
    import tomllib

    with _in_one_sentence():
        text = _decoded(data)
        if re.search(_LONG_KEY, text):  # tomllib's time grows with the square of its length
            raise ValueError("it nests too deeply")
        return tomllib.loads(text)


def _decoded(data: bytes | str) -> str:
    try:
        return data.decode() if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (at line {error.object.count(10, 0, error.start) + 1})") from None


@contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except ValueError as error:
        if hasattr(error, "lineno") and hasattr(error, "msg"):  # of JSON
            raise ValueError(f"{error.msg} at line {error.lineno}") from None
        # Of an integer of more digits than Python turns into one: sys.set_int_max_str_digits.
        raise ValueError("it has a number that is too long") if "digits" in str(error) else error from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has a duplicate key")
    return found


def _constant(_: str) -> NoReturn:
    raise ValueError("it has a number that is not finite")


class _Rules:
    """What the scanner wants to know. The hooks are called for objects, not for what is in them, and for constants:
    the rest stays fast.
    """

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_unique)
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_constant)


_scan = make_scanner(_Rules)  # type: ignore[arg-type]  # what json's own gives it is no such object either


def mapping(value: object, what: str) -> dict[str, Any]:
    """The value, if it is an object. Raises ValueError, as the following do."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    return value


def sequence(value: object, what: str, limit: int = _ITEMS) -> list[Any]:
    """The value, if it is a list of at most `limit` items."""
    if not isinstance(value, list):
        raise ValueError(f"{what} is not a list")
    if len(value) > limit:
        raise ValueError(f"{what} has more than {limit} items")
    return value


def text(value: object, what: str, limit: int = _TEXT) -> str:
    """The value, if it is a text of at most `limit` characters, valid as UTF-8 and without NUL."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is not a string")
    if len(value) > limit:
        raise ValueError(f"{what} has more than {limit} characters")
    try:
        value.encode()  # all but surrogates can be
    except UnicodeEncodeError:
        raise ValueError(f"{what} has invalid characters") from None
    if "\0" in value:
        raise ValueError(f"{what} has invalid characters")
    return value


def name(value: object, what: str, limit: int = _TEXT) -> str:
    """The same for the name of a file, with bytes that are not UTF-8 as surrogates (os.fsdecode)."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is not a string")
    try:
        text(value.encode("utf-8", "surrogateescape").decode("latin-1"), what, limit)
    except UnicodeEncodeError:
        raise ValueError(f"{what} has invalid characters") from None
    return value


def integer(value: object, what: str, least: int = 0, greatest: int = _GREATEST) -> int:
    """The value, if it is an integer within these bounds."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{what} is not an integer")
    if not least <= value <= greatest:
        raise ValueError(f"{what} is not between {least} and {greatest}")
    return value


def number(value: object, what: str) -> float:
    """The value, if it is a number that a double can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{what} is not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{what} is too large")
    return found


def flag(value: object, what: str) -> bool:
    """The value, if it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} is neither true nor false")
    return value


def field(table: Mapping[str, Any], key: str, check: Callable[[object, str], _T]) -> _T:
    """The value of a required key, checked by `check` (one of the above)."""
    if key not in table:
        raise ValueError(f"{key} is missing")
    return check(table[key], key)


def decimal(digits: str) -> int | None:
    """A decimal number of ASCII digits and 32 bits, as in files of accounts; None for anything else."""
    if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > len(str(_GREATEST_ID)):
        return None
    found = int(digits.lstrip("0") or "0")
    return found if found <= _GREATEST_ID else None


def shortened(text: str, limit: int = 300) -> str:
    """A text shortened for a message, as it may contain foreign data."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def as_data(value: object) -> object:
    """The `default` of json.dumps, for values that JSON has no form for; from_data restores them (decoding.py).

    A dataclass becomes an object with its fields, of which those with a default may be missing; bytes become a text
    with a character for each.
    """
    if records.is_record(type(value)):
        return {name: getattr(value, name) for name in records.fields(type(value))}
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, frozenset):
        return sorted(value)
    return _no_form(value)


def _no_form(value: object) -> NoReturn:
    raise TypeError(f"JSON has no form for {type(value).__name__}")
