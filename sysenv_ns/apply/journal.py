"""The journal of what was done to this system, written in advance; in directories that only root can read.

/var/backups/sysenv-ns/ID/
    plan.json   the plan that was agreed to
    journal     a line of JSON for each step that was begun: the state before and after
    old/, new/  contents of files before, and new contents until they are in place
        made/       what package scripts have created at these paths in between
    debs/       packages that apt does not have
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from sysenv_ns import decoding, documents
from sysenv_ns.apply import plan as plan_module
from sysenv_ns.apply.apt import PackageState
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.plan import Plan
from sysenv_ns.environment.store import check_name
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import reader
from sysenv_ns.files.locks import file_lock
from sysenv_ns.files.replacement import sync_directory, write_json

BACKUPS = Path("/var/backups/sysenv-ns")
LIMIT = 1 << 30  # bytes of a plan, or of a journal
_ID = re.compile(r"\d{8}-\d{6}\.\d{6}-[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Note:
    """A line of a journal: exactly one of these fields is set."""

    begin: int | None = None  # the number of a step, with what is there for the plan, now, and then
    old: Entry | None = None
    now: Entry | None = None
    new: Entry | None = None
    packages: Mapping[str, PackageState] | None = None  # as they were, before apt changes them
    installed: bool = False  # apt has
    end: bool = False  # of the apply
    restore: int | None = None  # the number of a step that is undone next
    undone: bool = False  # all of it


@dataclass(frozen=True)
class Journal:
    """One apply."""

    directory: Path

    @property
    def ident(self) -> str:
        """Its name."""
        return self.directory.name

    def place(self, kind: str, number: int | str) -> Path:
        """The path of a content."""
        return self.directory / kind / str(number)

    def plan(self) -> Plan:
        """The plan that was agreed to. Raises SysenvError."""
        try:
            return plan_module.from_data(reader.read_json(self.directory / "plan.json", LIMIT))
        except (OSError, ValueError) as error:
            raise SysenvError(
                f"{self.directory}/plan.json cannot be read: {documents.shortened(str(error))}"
            ) from error

    def note(self, record: Note) -> None:
        """Record what is about to be done. Raises OSError."""
        with open(self.directory / "journal", "a+b") as stream:
            _cut(stream)
            stream.write(json.dumps(record, default=documents.as_data).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def records(self) -> list[Note]:
        """All records; an incomplete last line was not carried out either. Raises SysenvError, OSError."""
        try:
            lines = reader.read(self.directory / "journal", LIMIT).split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        try:
            return [decoding.from_data(Note, documents.parse_json(line)) for line in lines]
        except ValueError as error:
            hint = "plan.json has the planned steps; old/ has what was there before, numbered by step"
            raise SysenvError(f"{self.directory}/journal is damaged ({error})", hint) from error

    def temporary(self, number: int) -> str:
        """The temporary name of a step's file."""
        return f".sysenv-ns-{self.ident[:22]}-{number}"


def _cut(stream: BinaryIO) -> None:
    """Delete an incomplete last line, left by a full disk or a power cut; the stream is then at its end."""
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
        raise SysenvError(f"{backups} is not private to root", "move it away")
    with file_lock(backups / "lock"):
        yield


def begin(backups: Path, plan: Plan) -> Journal:
    """A new journal. Raises OSError."""
    journal = Journal(backups / f"{datetime.now():%Y%m%d-%H%M%S.%f}-{check_name(plan.name)}")
    journal.directory.mkdir(mode=0o700)
    for name in ("old", "new", "made", "debs"):
        (journal.directory / name).mkdir(mode=0o700)
    write_json(journal.directory / "plan.json", plan_module.as_data(plan))
    sync_directory(backups)
    return journal


def find(backups: Path, ident: str) -> Journal:
    """The journal of that name, or without a name the last one that is not undone. Raises SysenvError, OSError."""
    names = sorted(path.parent.name for path in backups.glob("*/plan.json") if _ID.fullmatch(path.parent.name))
    journals = [Journal(backups / name) for name in names]
    if ident and ident in names:
        return Journal(backups / ident)
    left = [journal for journal in journals if not is_undone(journal)]
    hint = f"available: {', '.join(journal.ident for journal in left)}" if left else "see what is in it with: sudo ls"
    if ident:
        raise SysenvError(f"there is no apply {ident} in {backups}", hint)
    if not left:
        raise SysenvError("nothing to undo", f"applies keep their backups in {backups}")
    return left[-1]


def is_undone(journal: Journal) -> bool:
    """Whether all of it was undone; False for a damaged one. Raises OSError."""
    try:
        return any(record.undone for record in journal.records())
    except SysenvError:
        return False
