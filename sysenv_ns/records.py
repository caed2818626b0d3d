"""Frozen dataclasses for the modules that each start imports; the others use Python's own, which know these too.

`dataclasses` compiles the methods of each class when that is defined, half a millisecond a class, and imports what this
needs: of a start's 66 ms of processor time these were 36 (Python 3.11). Here all classes share the same methods. What
is different is only what is not here: classes that can be changed, and options other than these.
"""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import asdict, dataclass, field, replace
else:

    def dataclass(*, frozen):
        """What dataclasses.dataclass is, for a class whose instances never change."""
        assert frozen
        return _record

    def field(*, default_factory):
        """See dataclasses.field: the default is what the function makes for each instance."""
        return _Factory(default_factory)

    def replace(record, /, **changes):
        """See dataclasses.replace."""
        values = {name: getattr(record, name) for name in record.__match_args__}
        return type(record)(**(values | changes))

    def asdict(value):
        """See dataclasses.asdict; what is in a record is not copied, unless there are records in it."""
        if _kind(type(value)) is _Known:
            return {name: asdict(getattr(value, name)) for name in value.__match_args__}
        if isinstance(value, dict):
            return {key: asdict(item) for key, item in value.items()}
        return type(value)(map(asdict, value)) if type(value) in (list, tuple) else value


_FIELDS = "__dataclass_fields__"
__all__ = ["asdict", "dataclass", "field", "fields", "is_record", "replace"]


def is_record(cls: type) -> bool:
    """Whether a class is one of these, or of those of dataclasses."""
    return _kind(cls) is not None


def fields(cls: type) -> dict[str, bool]:
    """The names of the fields of either, and whether each has a default."""
    if _kind(cls) is _Known:
        names: tuple[str, ...] = cls._record_fields  # type: ignore[attr-defined]
        return {name: hasattr(cls, name) for name in names}
    import dataclasses

    parts = dataclasses.fields(cls)
    return {part.name: not part.default is part.default_factory is dataclasses.MISSING for part in parts}


def _kind(cls: type) -> type | None:
    """What tells of its fields: _Known for a class of this module."""
    return next((type(vars(c)[_FIELDS]) for c in cls.__mro__ if _FIELDS in vars(c)), None)


def _record(cls: type) -> type:
    own = [name for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar")]
    inherited = getattr(cls, "_record_fields", ())
    names = (*(name for name in inherited if name not in own), *own)
    methods = {key: value for key, value in vars(_Methods).items() if key in _SHARED and key not in vars(cls)}
    new = {"_record_fields": names, "__match_args__": names, "__init__": _Methods.__init__}
    known = {name: _Known(name) for name in (_FIELDS, "__dataclass_params__")}
    for key, value in {**methods, **new, **known}.items():
        setattr(cls, key, value)
    return cls


class _Methods:
    """What all records have; they do not inherit it, as they have bases of their own."""

    _record_fields: tuple[str, ...]

    def __init__(self, *arguments: object, **keywords: object) -> None:
        cls, names = type(self), self._record_fields
        if len(arguments) > len(names):
            raise TypeError(f"{cls.__name__} takes {len(names)} values, not {len(arguments)}")
        values = dict(zip(names, arguments, strict=False))
        for name, value in keywords.items():
            if name in values or name not in names:
                raise TypeError(f"{cls.__name__} has no field {name}, or it is given twice")
            values[name] = value
        if len(values) < len(names):
            missing = [name for name in names if name not in values and not hasattr(cls, name)]
            if missing:
                raise TypeError(f"{cls.__name__} needs {', '.join(missing)}")
            defaults = {name: getattr(cls, name) for name in names if name not in values}
            values |= {n: d.make() if isinstance(d, _Factory) else d for n, d in defaults.items()}
        vars(self).update(values)
        if hasattr(cls, "__post_init__"):
            cls.__post_init__(self)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} cannot be set: a {type(self).__name__} never changes")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} cannot be deleted: a {type(self).__name__} never changes")

    def __eq__(self, other: object) -> bool:
        return _values(self) == _values(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(_values(self))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._record_fields)
        return f"{type(self).__qualname__}({values})"


_SHARED = ("__setattr__", "__delattr__", "__eq__", "__hash__", "__repr__")


def _values(record: object) -> tuple[object, ...]:
    return tuple([getattr(record, name) for name in record._record_fields])  # type: ignore[attr-defined]


class _Factory:
    """The default of a field that is made for each instance."""

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


class _Known:
    """What makes Python's own functions (dataclasses.replace, asdict, ...) know a record, made when one first asks."""

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute

    def __get__(self, record: object, cls: type) -> object:
        import dataclasses

        names: tuple[str, ...] = cls._record_fields  # type: ignore[attr-defined]
        defaults = {name: getattr(cls, name) for name in names if hasattr(cls, name)}
        content = {
            name: dataclasses.field(default_factory=default.make) if isinstance(default, _Factory) else default
            for name, default in defaults.items()
        }
        twin = type(cls.__name__, (), {**content, "__annotations__": dict.fromkeys(names, "object")})
        return getattr(dataclasses.dataclass(frozen=True)(twin), self.attribute)
