"""basics: each does what Python's own does."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sysenv_ns import basics

_MANAGERS: tuple[Callable[..., Any], ...] = (basics.contextmanager, contextlib.contextmanager)
_ERRORS = (ValueError("a"), StopIteration("b"), KeyboardInterrupt(), OSError(2, "c"), GeneratorExit())


@pytest.mark.parametrize("make", _MANAGERS)
def test_a_context_ends_in_any_case(make: Callable[..., Any]) -> None:
    seen: list[str] = []

    @make
    def context(value: int) -> Iterator[int]:
        """A text."""
        seen.append("begin")
        try:
            yield value
        finally:
            seen.append("end")

    with context(value=3) as value:
        assert value == 3
    assert (context.__doc__, context.__name__) == ("A text.", "context")
    for error in _ERRORS:
        with pytest.raises(type(error)) as raised, context(1):
            raise error
        assert raised.value is error
    assert seen == ["begin", "end"] * (len(_ERRORS) + 1)


@pytest.mark.parametrize("make", _MANAGERS)
def test_a_context_can_end_an_error_or_turn_it_into_another(make: Callable[..., Any]) -> None:
    @make
    def context(other: Exception | None) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if other is not None:
                raise other from error

    with context(None):
        raise ValueError
    with pytest.raises(KeyError) as raised, context(KeyError("x")):
        raise ValueError("y")
    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize("make", _MANAGERS)
def test_a_context_that_goes_on_is_a_mistake(make: Callable[..., Any]) -> None:
    @make
    def context() -> Iterator[None]:
        with contextlib.suppress(ValueError):
            yield
        yield

    with pytest.raises(RuntimeError), context():
        pass
    with pytest.raises(RuntimeError), context():
        raise ValueError


@pytest.mark.parametrize("suppress", [basics.suppress, contextlib.suppress])
def test_errors_of_these_types_are_suppressed(suppress: Any) -> None:
    with suppress(KeyError, OSError):
        raise FileNotFoundError
    with suppress(OSError):
        pass
    with pytest.raises(ValueError, match="a"), suppress(OSError):
        raise ValueError("a")


@pytest.mark.parametrize("prop", [basics.cached_property, functools.cached_property])
def test_a_property_is_computed_once(prop: Any) -> None:
    class Some:
        count = 0

        @prop  # type: ignore[untyped-decorator]
        def value(self) -> list[int]:
            """A text."""
            self.count += 1
            return [self.count]

    some = Some()
    assert some.value is some.value
    assert (some.count, Some.value.__doc__) == (1, "A text.")
