"""PURE: values of any type from the JSON of documents.as_data, checked in all their parts.

Every error is a ValueError of one short sentence, which repeats nothing of the data. A start does without it: types are
looked at by typing, whose import takes long.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from sysenv_ns import records
from sysenv_ns.documents import mapping, number

_T = TypeVar("_T")


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
    hints = {name: _decoder(hint) for name, hint in get_type_hints(kind, localns=vars(typing)).items()}
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
