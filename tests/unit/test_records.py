"""records: the classes behave as those of dataclasses do, and dataclasses takes them for its own."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from functools import cached_property
from typing import Any

import pytest

from sysenv_ns import records


@records.dataclass(frozen=True)
class Point:
    x: int
    y: int = 2

    @cached_property
    def total(self) -> int:
        return self.x + self.y


@records.dataclass(frozen=True)
class Named(Point):
    name: str = "n"
    points: tuple[Point, ...] = ()
    seen: dict[str, int] = records.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("no name")


@dataclasses.dataclass(frozen=True)
class Standard(Point):
    also: int = 5


class Plain(Named):
    """Not decorated."""


@dataclasses.dataclass(frozen=True)
class SamePoint:
    x: int
    y: int = 2


def test_values_by_place_by_name_and_by_default() -> None:
    assert (Point(1).x, Point(1).y, Point(y=3, x=1).y, Point(1, 4).y) == (1, 2, 3, 4)
    assert Named(1, name="a") == Named(1, 2, "a", (), {})
    assert Named(1).seen is not Named(1).seen
    assert Plain(1, name="b").name == "b"
    assert Standard(1).also == 5
    assert Point(3).total == 5


@pytest.mark.parametrize(
    "wrong",
    [
        lambda cls: cls(),
        lambda cls: cls(1, 2, 3),
        lambda cls: cls(1, x=1),
        lambda cls: cls(1, z=1),
        lambda cls: cls(y=1),
    ],
)
def test_wrong_calls_are_refused_as_by_dataclasses(wrong: Callable[[Any], object]) -> None:
    for cls in (Point, SamePoint):
        with pytest.raises(TypeError):
            wrong(cls)


def test_what_follows_the_initialisation_is_called() -> None:
    with pytest.raises(ValueError, match="no name"):
        Named(1, name="")


def test_nothing_changes() -> None:
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.x
    assert point == Point(1)


def test_equal_by_class_and_value() -> None:
    assert Point(1) == Point(1, 2)
    assert Point(1) != Point(2)
    assert Point(1) != Named(1)
    plain: object = (1, 2)
    assert Point(1) != plain
    assert len({Point(1), Point(1, 2), Point(2)}) == 2
    with pytest.raises(TypeError):
        hash(Named(1, points=[]))  # type: ignore[arg-type]


def test_texts_and_patterns() -> None:
    assert repr(Point(1)) == "Point(x=1, y=2)"
    match Point(1, 3):
        case Point(x, y):
            assert (x, y) == (1, 3)


def test_copies_and_pickles() -> None:
    named = Named(1, points=(Point(4),))
    assert copy.copy(named) == copy.deepcopy(named) == pickle.loads(pickle.dumps(named)) == named


@pytest.mark.parametrize("module", [records, dataclasses])
def test_the_functions_of_both_modules(module: Any) -> None:
    named = Named(1, points=(Point(4), Point(5)))
    assert module.asdict(named) == {
        "x": 1,
        "y": 2,
        "name": "n",
        "points": ({"x": 4, "y": 2}, {"x": 5, "y": 2}),
        "seen": {},
    }
    assert module.replace(named, x=7, name="m") == Named(7, 2, "m", named.points)
    with pytest.raises(TypeError):
        module.replace(named, z=1)


def test_dataclasses_knows_them() -> None:
    assert dataclasses.is_dataclass(Point)
    assert [(field.name, field.default) for field in dataclasses.fields(Point)] == [
        ("x", dataclasses.MISSING),
        ("y", 2),
    ]


def test_the_fields_of_both_kinds() -> None:
    @dataclasses.dataclass(frozen=True)
    class Made:
        x: int
        y: int = 1
        z: list[int] = dataclasses.field(default_factory=list)

    assert records.fields(Made) == {"x": False, "y": True, "z": True}
    assert records.fields(Named) == {"x": False, "y": True, "name": True, "points": True, "seen": True}
    assert records.fields(Standard) == {"x": False, "y": True, "also": True}
    assert records.fields(Plain) == records.fields(Named)
    assert records.is_record(Made)
    assert records.is_record(Point)
    assert not records.is_record(str)
