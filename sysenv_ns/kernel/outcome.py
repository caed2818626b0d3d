"""What a process of the tool reports to its parent, as JSON: the result of a function, or its error."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from typing import Literal, TypeVar

from sysenv_ns import documents
from sysenv_ns.errors import Exhausted, SysenvError, Unexpected
from sysenv_ns.records import dataclass

_T = TypeVar("_T")


@dataclass(frozen=True)
class Failure:
    """An error: a SysenvError ("exhausted": Exhausted), an OSError, or an unforeseen one (Unexpected)."""

    kind: Literal["refusal", "exhausted", "call", "fault"]
    message: str | None  # of a fault its kind
    more: str = ""  # the hint, or the trace of a fault
    number: int | None = None  # the exit status, or the errno of a call
    path: str | None = None  # of a call
    other_path: str | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The report of an error."""
        if isinstance(error, SysenvError):
            kind: Literal["exhausted", "refusal"] = "exhausted" if isinstance(error, Exhausted) else "refusal"
            return cls(kind, error.message, error.hint, error.exit_status)
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
        raise documents.from_data(Failure, report["failure"], "a failure").error()
    return documents.from_data(kind, report.get("result"), "the result")


def _encoded(report: dict[str, object]) -> bytes:
    return json.dumps(report, default=documents.as_data).encode()


def _as_path(name: str | bytes | int | None) -> str | None:
    """A name of an OSError as JSON takes it; a call on a descriptor has that."""
    return f"descriptor {name}" if isinstance(name, int) else name if name is None else os.fsdecode(name)
