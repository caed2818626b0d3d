"""What the modules that each start imports need of Python's library; the others use that itself. `opened` is for all.

contextlib, functools, signal and typing import collections, enum and re, which take a sixth of the time of a start.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from contextlib import contextmanager, suppress
    from functools import cached_property
    from types import NoneType
    from typing import Protocol
else:
    import _signal as signal  # the built-in half, with numbers as they are

    NoneType = type(None)

    class Protocol:
        """See typing.Protocol; it means something to type checkers alone."""

    class suppress:
        """See contextlib.suppress."""

        def __init__(self, *kinds):
            self._kinds = kinds

        def __enter__(self):
            pass

        def __exit__(self, kind, error, trace):
            return kind is not None and issubclass(kind, self._kinds)

    def contextmanager(function):
        """See contextlib.contextmanager."""

        def manager(*arguments, **keywords):
            return _Manager(function(*arguments, **keywords))

        manager.__doc__, manager.__name__, manager.__wrapped__ = function.__doc__, function.__name__, function
        return manager

    class cached_property:
        """See functools.cached_property."""

        def __init__(self, function):
            self._function = function
            self.__doc__ = function.__doc__

        def __get__(self, instance, cls):
            if instance is None:
                return self
            value = vars(instance)[self._function.__name__] = self._function(instance)
            return value

    class _Manager:
        """The context of a generator that yields once."""

        def __init__(self, generator):
            self._generator = generator

        def __enter__(self):
            return next(self._generator)

        def __exit__(self, kind, error, trace):
            if error is None:
                for _ in self._generator:
                    raise RuntimeError("a context yields once")
                return False
            try:
                self._generator.throw(error)
            except StopIteration as end:
                return end is not error
            except BaseException as raised:
                if raised is error or (isinstance(error, StopIteration) and raised.__cause__ is error):
                    error.__traceback__ = trace
                    return False
                raise
            raise RuntimeError("a context yields once")


class opened:
    """A descriptor that `with` closes in the end, as it does with a file object."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


__all__ = ["NoneType", "Protocol", "cached_property", "contextmanager", "opened", "signal", "suppress"]
