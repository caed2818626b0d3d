"""The process that changes this system: started by sudo, takes a request on its standard input, answers on stdout.

It runs only the tool's own code. It receives a length and that many bytes of JSON, then the contents of files.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from sysenv_ns import decoding, documents
from sysenv_ns.apply import apt, checks, execution, journal, plan, undo
from sysenv_ns.apply.execution import Done
from sysenv_ns.apply.plan import Plan
from sysenv_ns.apply.tree import TargetTree
from sysenv_ns.apply.undo import Undo
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import reader
from sysenv_ns.kernel import children, outcome

LENGTH = 16  # digits
READY = b"ready\n"
_STDIN = 0
_STDOUT = 1


@dataclass(frozen=True)
class Request:
    """A request: an apply, undoing one as it was shown (Undo), or else showing what undoing it would do."""

    plan: Plan | None = None
    ident: str = ""  # of the apply that is to be undone; "" for the last one
    undo: Undo | None = None
    force: bool = False


@dataclass(frozen=True)
class Undone:
    """The result of an undo."""

    ident: str
    kept: tuple[str, ...]  # paths that somebody has changed since
    unsound: tuple[str, ...]  # packages that dpkg has not finished with


def main() -> int:
    """Carry out the request; the exit status says whether it was done."""
    os.umask(0o022)
    told, succeeded = outcome.told(_answered)
    children.write_all(_STDOUT, told)
    return 0 if succeeded else 1


def _answered() -> Done | Undo | Undone:
    try:
        return _answer(_request())
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise SysenvError(f"{where}{reason(error)}") from error
    except KeyboardInterrupt:
        raise SysenvError("interrupted", "undo what was done so far: sysenv-ns apply --undo") from None


def _request() -> Request:
    length = b"".join(reader.content(_STDIN, LENGTH))
    if os.geteuid() != 0 or len(length) != LENGTH or not length.isdigit():
        raise SysenvError("only sysenv-ns apply may start this", "run: sysenv-ns apply --help")
    try:
        request = decoding.from_data(Request, documents.parse_json(b"".join(reader.content(_STDIN, int(length)))))
        if request.plan is not None:
            checks.checked(plan.sound(request.plan))
    except ValueError as error:
        raise SysenvError(f"the request is damaged ({error})", "nothing was done") from error
    return request


def _answer(request: Request) -> Done | Undo | Undone:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = TargetTree(root)
    if request.plan is not None:
        os.write(_STDOUT, READY)  # sudo may have waited for a password
        return execution.carry_out(tree, journal.BACKUPS, request.plan, _STDIN)
    with journal.locked(journal.BACKUPS):
        own = journal.find(journal.BACKUPS, request.ident)
        found = undo.plan(tree, own)
        if request.undo is None:
            return found
        if found != request.undo:
            raise SysenvError("this system has changed in the meantime", "nothing was done; run it again")
        kept = undo.take_back(tree, own, found, request.force)
        return Undone(own.ident, kept, tuple(apt.unsound()) if found.repair else ())


if __name__ == "__main__":
    sys.exit(main())
