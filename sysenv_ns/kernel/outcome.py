"""What a process of the tool reports to its parent, as JSON: the result of a function, or its error."""

from __future__ import annotations

import errno
import os

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.basics import NoneType
from sysenv_ns.errors import Exhausted, SysenvError, Unexpected
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    _T = TypeVar("_T")


_KINDS = ("refusal", "exhausted", "call", "fault")
_TYPES: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "message": (str, NoneType),
    "more": (str,),
    "number": (int, NoneType),
    "path": (str, NoneType),
    "other_path": (str, NoneType),
}


@dataclass(frozen=True)
class Failure:
    """An error: a SysenvError ("exhausted": Exhausted), an OSError, or an unforeseen one (Unexpected)."""

    kind: str  # "refusal", "exhausted", "call" or "fault"
    message: str | None  # of a fault its kind
    more: str = ""  # the hint, or the trace of a fault
    number: int | None = None  # the exit status, or the errno of a call
    path: str | None = None  # of a call
    other_path: str | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The report of an error."""
        if isinstance(error, SysenvError):
            return cls(
                "exhausted" if isinstance(error, Exhausted) else "refusal", error.message, error.hint, error.exit_status
            )
        if isinstance(error, RecursionError):
            return cls("refusal", "directories are nested too deeply", "move the inner ones elsewhere")
        if isinstance(error, OSError):
            paths = _as_path(error.filename), _as_path(error.filename2)
            return cls("call", error.strerror, "", error.errno, *paths)
        if isinstance(error, MemoryError):
            return cls("call", os.strerror(errno.ENOMEM), "", errno.ENOMEM)
        found = Unexpected.of(error)
        return cls("fault", found.kind, found.trace)

    def error(self) -> Exception:
        """The error, for this process."""
        if self.kind == "call":
            return OSError(self.number, self.message, self.path, None, self.other_path)
        if self.kind == "fault":
            return Unexpected(self.message or "", self.more)
        failure = Exhausted if self.kind == "exhausted" else SysenvError
        return failure(self.message or "", self.more, self.number)


def told(function: Callable[[], object]) -> tuple[bytes, bool]:
    """The report of a function's result, of a type that documents.as_data knows, or of its error; and whether it
    has a result.
    """
    try:
        return _encoded({"result": function()}), True
    except Exception as error:
        return _encoded({"failure": Failure.of(error)}), False


def result(data: bytes, kind: type[_T]) -> _T:
    """The result in a report, of the type `kind`; raises the error in it, or ValueError."""
    report = documents.mapping(documents.parse_json(data), "a report")
    if "failure" in report:
        raise _failure(documents.mapping(report["failure"], "a failure")).error()
    found = report.get("result")
    if kind is NoneType and found is None:
        return found  # type: ignore[return-value]  # mypy does not conclude that from `kind is`
    from sysenv_ns import decoding  # imported by `prepare`

    return decoding.from_data(kind, found, "the result")


def prepare(kind: type[object]) -> None:
    """Import what `result` needs for results of this type: later it could come from an environment."""
    if kind is not NoneType:
        from sysenv_ns import decoding  # noqa: F401


def _failure(data: Mapping[str, object]) -> Failure:
    """Without decoding.py, as every child can fail. Raises ValueError."""
    if data.keys() != _TYPES.keys() or data["kind"] not in _KINDS:
        raise ValueError("a failure has missing or unknown fields")
    if wrong := [name for name, types in _TYPES.items() if type(data[name]) not in types]:
        raise ValueError(f"{wrong[0]} of a failure is of a wrong type")
    return Failure(**data)  # type: ignore[arg-type]  # they have been looked at


def _encoded(report: dict[str, object]) -> bytes:
    return documents.json_of(report, documents.as_data).encode()


def _as_path(name: str | bytes | int | None) -> str | None:
    """A name of an OSError as JSON takes it; a call on a descriptor has that."""
    return f"descriptor {name}" if isinstance(name, int) else name if name is None else os.fsdecode(name)
