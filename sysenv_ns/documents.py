"""PURE: JSON and TOML that somebody else may have written, their fields within bounds, and dataclasses as JSON.

It opens no file.
Every error is a ValueError of one short sentence, which repeats nothing of the data.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import NoneType
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from sysenv_ns import records

_T = TypeVar("_T")
_LONG_KEY = r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){100}"""
_TEXT = 4096  # characters: PATH_MAX
_ITEMS = 100_000
_GREATEST = (1 << 63) - 1


def parse_json(data: bytes | str) -> Any:
    """The document. Raises ValueError, also for too deep nesting, duplicate keys, and numbers that are not finite."""
    with _in_one_sentence():
        # The hooks are called for objects, not for what is in them, and for constants: the rest stays fast.
        return json.loads(_decoded(data), object_pairs_hook=_unique, parse_constant=_constant)


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """The same for TOML."""
    import tomllib  # slow, and rarely needed

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


@contextlib.contextmanager
def _in_one_sentence() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at line {error.lineno}") from None
    except ValueError as error:
        # Of an integer of more digits than Python turns into one: sys.set_int_max_str_digits.
        raise ValueError("it has a number that is too long") if "digits" in str(error) else error from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it has a duplicate key")
    return found


def _constant(_: str) -> NoReturn:
    raise ValueError("it has a number that is not finite")


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


def decimal(digits: str, greatest: int = 0xFFFFFFFF) -> int | None:
    """A decimal number of ASCII digits up to a bound, as in files of accounts; None for anything else."""
    if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > len(str(greatest)):
        return None
    found = int(digits.lstrip("0") or "0")
    return found if found <= greatest else None


def shortened(text: str, limit: int = 300) -> str:
    """A text shortened for a message, as it may contain foreign data."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def as_data(value: object) -> object:
    """The `default` of json.dumps, for values that JSON has no form for; from_data restores them.

    A dataclass becomes an object with its fields, of which those with a default may be missing; bytes become a text
    with a character for each.
    """
    if records.is_record(type(value)):
        return {name: getattr(value, name) for name in records.fields(type(value))}
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"JSON has no form for {type(value).__name__}")


def from_data(kind: type[_T], data: object, what: str = "it") -> _T:
    """A value of a type, from the JSON of as_data; the types of all its parts are checked.

    Types are those of JSON, bytes, dataclasses and named tuples with such fields, tuples, frozen sets, mappings by
    text, literals, and any of these or None. Raises ValueError.
    """
    decode: _Decoder = _decoder(kind)  # type: ignore[arg-type]  # all types can be hashed
    value: _T = decode(data, what)
    return value


_Decoder = Callable[[object, str], Any]


@functools.cache
def _decoder(kind: Any) -> _Decoder:
    if kind in _DECODERS:
        return _DECODERS[kind]
    if (origin := get_origin(kind)) is not None:
        return _decoder_of_generic(origin, get_args(kind))
    hints = {name: _decoder(hint) for name, hint in get_type_hints(kind).items()}
    if issubclass(kind, tuple):
        return functools.partial(_row, kind._make, tuple(hints.values()))
    parts = records.fields(kind)
    needed = {name for name, has_default in parts.items() if not has_default}
    return functools.partial(_object, kind, {name: hints[name] for name in parts}, needed)


def _decoder_of_generic(origin: Any, arguments: tuple[Any, ...]) -> _Decoder:
    if origin is Literal:
        return functools.partial(_literal, arguments)
    if origin in (dict, Mapping):
        return functools.partial(_table, _decoder(arguments[1]))
    if origin is tuple and arguments[-1] is not ...:
        return functools.partial(_row, tuple, tuple(map(_decoder, arguments)))
    if origin in (tuple, frozenset):
        return functools.partial(_items, origin, _decoder(arguments[0]))
    (one,) = (_decoder(argument) for argument in arguments if argument is not NoneType)  # the other half of a union
    return lambda data, what: None if data is None else one(data, what)


def _plain(kind: type, data: object, what: str) -> object:
    if type(data) is not kind:
        raise ValueError(f"{what} is not of the type {kind.__name__}")
    return data


def _bytes(data: object, what: str) -> bytes:
    try:
        return str(_plain(str, data, what)).encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{what} has invalid characters") from None


def _literal(values: tuple[object, ...], data: object, what: str) -> object:
    if data not in values:
        raise ValueError(f"{what} has an unknown value")
    return data


def _items(make: Callable[[Iterator[object]], object], one: _Decoder, data: object, what: str) -> object:
    if not isinstance(data, list | tuple):
        raise ValueError(f"{what} is not a list")
    return make(one(item, what) for item in data)


def _row(make: Callable[[list[object]], object], parts: tuple[_Decoder, ...], data: object, what: str) -> object:
    if not isinstance(data, list | tuple) or len(data) != len(parts):
        raise ValueError(f"{what} is not a list of {len(parts)} items")
    return make([one(item, what) for one, item in zip(parts, data, strict=True)])


def _table(one: _Decoder, data: object, what: str) -> dict[str, object]:
    return {key: one(value, what) for key, value in mapping(data, what).items()}


def _object(
    make: Callable[..., object], parts: dict[str, _Decoder], needed: set[str], data: object, what: str
) -> object:
    given = mapping(data, what)
    if not needed <= given.keys() <= parts.keys():
        raise ValueError(f"{what} has missing or unknown fields")
    return make(**{name: parts[name](value, name) for name, value in given.items()})


_DECODERS: dict[object, _Decoder] = {
    **{kind: functools.partial(_plain, kind) for kind in (NoneType, bool, int, str)},
    float: number,
    bytes: _bytes,
    object: lambda data, what: data,
}
