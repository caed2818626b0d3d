"""The process that changes this system: started by sudo, told what to do through its standard input, answers on stdout.

It runs the tool's own code alone. What it is sent is a length and that many bytes of JSON, then the contents of files.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.to_host import apt, carrying, entries, journal, plan, undoing
from sysenv_ns.to_host.plan import Plan
from sysenv_ns.to_host.tree import Tree

LENGTH = 16  # digits
READY = b"ready\n"
_STDIN = 0
_STDOUT = 1


def main() -> int:
    """Do what is asked; the exit status says whether it was done."""
    try:
        os.umask(0o022)
        answer: dict[str, object] = {"result": _answer(_request())}
    except SysenvError as error:
        answer = {"message": error.message, "hint": error.hint}
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        answer = {"message": f"{where}{reason(error)}", "hint": ""}
    except KeyboardInterrupt:
        answer = {"message": "interrupted", "hint": "what is done so far goes with: sysenv-ns apply --undo"}
    print(json.dumps(answer))
    return 0 if "result" in answer else 1


@dataclass(frozen=True)
class _Request:
    verb: str
    ident: str = ""
    plan: Plan | None = None  # of an apply
    undo: object = None  # what was shown of an undo
    force: bool = False


def _request() -> _Request:
    length = b"".join(entries.chunks(_STDIN, LENGTH))
    if os.geteuid() != 0 or len(length) != LENGTH or not length.isdigit():
        raise SysenvError("this is started by sysenv-ns apply alone", "run: sysenv-ns apply --help")
    try:
        return _parsed(json.loads(b"".join(entries.chunks(_STDIN, int(length)))))
    except (ValueError, KeyError, TypeError) as error:
        raise SysenvError(f"the request is damaged ({error})", "nothing was done") from error


def _parsed(data: dict[str, Any]) -> _Request:
    verb = str(data["verb"])
    if verb == "apply":
        return _Request(verb, plan=plan.from_data(data["plan"]))
    if verb == "undo":
        return _Request(verb, str(data["ident"]), undo=data["plan"], force=bool(data["force"]))
    if verb != "show":
        raise ValueError(f"wrong verb {verb!r}")
    return _Request(verb, str(data["ident"]))


def _answer(request: _Request) -> object:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = Tree(root)
    if request.plan is not None:
        os.write(_STDOUT, READY)  # sudo may have waited for a password
        done = carrying.carry_out(tree, journal.BACKUPS, request.plan, _STDIN)
        return {"ident": done.ident, "skipped": done.skipped}
    with journal.locked(journal.BACKUPS):
        own = journal.find(journal.BACKUPS, request.ident)
        undo = undoing.plan(tree, own)
        data = json.loads(json.dumps(undoing.as_data(undo)))
        if request.verb == "show":
            return data
        if data != request.undo:
            raise SysenvError("this system has changed meanwhile", "nothing was done; run it again")
        kept = undoing.take_back(tree, own, undo, request.force)
        return {"ident": own.ident, "kept": kept, "unsound": apt.unsound() if undo.repair else []}


if __name__ == "__main__":
    sys.exit(main())
