"""What was done to this system, written down before it is done; in directories that root alone can read.

/var/backups/sysenv-ns/ID/
    plan.json   what was agreed to
    journal     a line of JSON for each thing that was begun: what was there before, what is there then
    old/, new/  contents of files as they were, and as they are to be until they are there
        made/       what packages' scripts have made of them in between
    debs/       packages that apt could not get
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from sysenv_ns.errors import SysenvError
from sysenv_ns.store import check_name, file_lock, sync_directory, write_json
from sysenv_ns.to_host import plan as plan_module
from sysenv_ns.to_host.plan import Plan

BACKUPS = Path("/var/backups/sysenv-ns")
_ID = re.compile(r"\d{8}-\d{6}\.\d{6}-[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Journal:
    """One apply."""

    directory: Path

    @property
    def ident(self) -> str:
        """Its name."""
        return self.directory.name

    def place(self, kind: str, number: int | str) -> Path:
        """Where a content lies."""
        return self.directory / kind / str(number)

    def plan(self) -> Plan:
        """What was agreed to. Raises SysenvError."""
        try:
            return plan_module.from_data(json.loads((self.directory / "plan.json").read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SysenvError(f"{self.directory}/plan.json cannot be read: {error}") from error

    def note(self, **record: object) -> None:
        """Write down what is about to be done. Raises OSError."""
        with open(self.directory / "journal", "a+b") as stream:
            _cut(stream)
            stream.write(json.dumps(record).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def records(self) -> list[dict[str, Any]]:
        """All that was written down; a last line that is not whole was not done either. Raises SysenvError, OSError."""
        try:
            lines = (self.directory / "journal").read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            hint = "what it was about is in plan.json, and what was there before in old/, by the numbers of its steps"
            raise SysenvError(f"{self.directory}/journal is damaged ({error})", hint) from error

    def temporary(self, number: int) -> str:
        """The name under which a step's file is written before it gets its own."""
        return f".sysenv-ns-{self.ident[:22]}-{number}"


def _cut(stream: BinaryIO) -> None:
    """Take away what was written of a last line, when the disk was full or the machine lost its power. At the end."""
    if stream.tell() == 0:
        return
    stream.seek(-1, os.SEEK_END)
    if stream.read() != b"\n":
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)


@contextlib.contextmanager
def locked(backups: Path) -> Iterator[None]:
    """One apply or undo at a time. Raises SysenvError, OSError."""
    backups.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = backups.lstat()
    if backups.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise SysenvError(f"{backups} is not root's alone", "move it away")
    with file_lock(backups / "lock"):
        yield


def begin(backups: Path, plan: Plan) -> Journal:
    """A new one. Raises OSError."""
    journal = Journal(backups / f"{datetime.now():%Y%m%d-%H%M%S.%f}-{check_name(plan.name)}")
    journal.directory.mkdir(mode=0o700)
    for name in ("old", "new", "made", "debs"):
        (journal.directory / name).mkdir(mode=0o700)
    write_json(journal.directory / "plan.json", plan_module.as_data(plan))
    sync_directory(backups)
    return journal


def find(backups: Path, ident: str) -> Journal:
    """The one of that name, or without a name the last one that is not undone. Raises SysenvError, OSError."""
    names = sorted(path.parent.name for path in backups.glob("*/plan.json") if _ID.fullmatch(path.parent.name))
    journals = [Journal(backups / name) for name in names]
    if ident and ident in names:
        return Journal(backups / ident)
    left = [journal for journal in journals if not is_undone(journal)]
    hint = f"there are: {', '.join(journal.ident for journal in left)}" if left else "see what is in it with: sudo ls"
    if ident:
        raise SysenvError(f"there is no apply {ident} in {backups}", hint)
    if not left:
        raise SysenvError("there is no apply to be taken back", f"their backups would be in {backups}")
    return left[-1]


def is_undone(journal: Journal) -> bool:
    """Whether all of it was taken back; of one that is damaged nobody can say so. Raises OSError."""
    try:
        return any("undone" in record for record in journal.records())
    except SysenvError:
        return False
