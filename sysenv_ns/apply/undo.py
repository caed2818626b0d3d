"""Undoes an apply, as root, by its journal and the present state; can be interrupted and run again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sysenv_ns.apply import apt, entries
from sysenv_ns.apply.apt import PackageState
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.journal import Journal, Note
from sysenv_ns.apply.plan import PackageStep, Plan
from sysenv_ns.apply.tree import TargetTree
from sysenv_ns.diff import changes
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import reader

State = Literal["undo", "changed"]  # changed: by somebody else since
Backup = Literal["old", "made"]  # whose content comes back: what was there, or what a new package had put there


@dataclass(frozen=True)
class Restored:
    """A path to restore."""

    number: int
    path: str
    state: State
    old: Entry | None
    new: Entry | None
    now: Entry | None
    of_sources: bool
    backup: Backup = "old"


@dataclass(frozen=True)
class Undo:
    """The plan of an undo."""

    ident: str
    name: str
    packages: tuple[PackageStep, ...]
    unavailable: tuple[str, ...]  # packages whose version of before apt cannot get
    files: tuple[Restored, ...]
    finished: bool  # whether the apply came to its end
    repair: bool  # whether dpkg may have been interrupted


def plan(tree: TargetTree, journal: Journal) -> Undo:
    """Plan the undo. Raises SysenvError, OSError."""
    agreed, records = journal.plan(), journal.records()
    files = tuple(reversed(list(_files(tree, agreed, records))))
    before = next((record.packages for record in records if record.packages is not None), {})
    packages, unavailable = _packages(before)
    finished = any(record.end for record in records)
    repair = bool(before) and not any(record.installed for record in records)
    return Undo(journal.ident, agreed.name, packages, unavailable, files, finished, repair)


def _files(tree: TargetTree, agreed: Plan, records: Sequence[Note]) -> Iterator[Restored]:
    begun = {record.begin: record for record in records if record.begin is not None}
    touched = {record.restore for record in records if record.restore is not None}
    if not any(record.end for record in records):
        touched |= {*list(begun)[-1:]}
    for number, record in begun.items():
        step = agreed.steps[number]
        old, made, new = record.old, record.now, record.new
        try:
            now = tree.read(step.path)
        except OSError as error:
            raise SysenvError(f"{step.path} cannot be read on this system: {reason(error)}") from error
        if not entries.same(now, old):
            ours = entries.same(now, new) or (number in touched and _is_between(now, (old, made, new)))
            state: State = "undo" if ours else "changed"
            target, backup = _wanted(old, made)
            if not entries.same(now, target):
                yield Restored(
                    number,
                    step.path,
                    state,
                    old=target,
                    new=new,
                    now=now,
                    of_sources=step.of_sources,
                    backup=backup,
                )


def _wanted(old: Entry | None, made: Entry | None) -> tuple[Entry | None, Backup]:
    """The state to restore, and where it is kept: that before the apply, else what a new package put there."""
    return (old, "old") if old is not None or made is None else (made, "made")


def _is_between(now: Entry | None, states: Iterable[Entry | None]) -> bool:
    """Whether an interrupted step can have left this: contents change at once, but owners and modes one by one."""
    return now is None or any(side and side.type == now.type and _content(side) == _content(now) for side in states)


def _packages(before: Mapping[str, PackageState]) -> tuple[tuple[PackageStep, ...], tuple[str, ...]]:
    """The packages of the apply that now differ from before it."""
    now = apt.states(before) if before else {}
    found = [
        PackageStep(name, changes.package_kind(now[name][0], version), now[name][0], version, automatic)
        for name, (version, automatic) in before.items()
        if now[name][0] != version
    ]
    if not any(package.new for package in found):
        return tuple(found), ()
    available = apt.available(package.name for package in found if package.new)
    lost = {package for package in found if package.new and (package.name, package.new) not in available}
    return tuple(p for p in found if p not in lost), tuple(sorted(f"{p.name} {p.new}" for p in lost))


def take_back(tree: TargetTree, journal: Journal, undo: Undo, force: bool) -> tuple[str, ...]:
    """Undo; files changed since are kept, unless forced. Returns their paths. Raises SysenvError, OSError."""
    if undo.packages and not undo.repair:
        apt.check(undo.packages, {})  # before anything is done
    for number, step in enumerate(journal.plan().steps):  # what an interrupted write has left beside the file
        tree.forget(step.path, journal.temporary(number))
    kept = [_restore(tree, journal, file, force) for file in undo.files if not file.of_sources]
    if undo.repair:
        apt.repair()  # a script that fails does not stop it: its package goes below, or gets its version of before
    if undo.packages:
        apt.check(undo.packages, {})
        apt.install(undo.packages, {})
        _restore_again(tree, journal, undo, kept)
    sources = [file for file in undo.files if file.of_sources]
    kept += [_restore(tree, journal, file, force) for file in sources]
    left = tuple(path for path in kept if path)
    if not left and not undo.unavailable:
        journal.note(Note(undone=True))
    if sources:
        apt.update()
    return left


def _restore_again(tree: TargetTree, journal: Journal, undo: Undo, kept: Iterable[str]) -> None:
    """The earlier version of a package brings its own files, also over changed ones."""
    for file in undo.files:
        now = tree.read(file.path)
        if file.backup == "old" and file.path not in kept and not file.of_sources and not entries.same(now, file.old):
            _put_back(tree, journal, replace(file, now=now), journal.temporary(file.number))


def _restore(tree: TargetTree, journal: Journal, file: Restored, force: bool) -> str:
    """Restore a path; returns it if that is not done, because later changes would be lost."""
    temporary = journal.temporary(file.number)
    if file.state == "changed" and not force:
        return file.path
    if file.now is not None and file.state == "changed":
        _keep(tree, journal, file)
    journal.note(Note(restore=file.number))
    try:
        _put_back(tree, journal, file, temporary)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return file.path  # somebody has put something into the directory
    return ""


def _keep(tree: TargetTree, journal: Journal, file: Restored) -> None:
    """Keep what is overwritten by force beside the backup."""
    if file.now is None or file.now.type != "file":
        return
    (journal.directory / "forced").mkdir(mode=0o700, exist_ok=True)
    with open(journal.place("forced", file.number), "wb") as target:
        tree.copy_content(file.path, target.fileno())
        os.fsync(target.fileno())


def _put_back(tree: TargetTree, journal: Journal, file: Restored, temporary: str) -> None:
    old, now = file.old, file.now
    if old is None:
        tree.remove(file.path)
    elif now is not None and now.type == old.type and _content(now) == _content(old):
        tree.dress(file.path, now, old)
    elif old.type == "file":
        place = journal.place(file.backup, file.number)
        if not place.exists():
            _dress(tree, file, old)
            return
        with reader.stream(place) as source:
            tree.put(file.path, old, temporary, source.fileno())
    else:
        tree.put(file.path, old, temporary)


def _dress(tree: TargetTree, file: Restored, old: Entry) -> None:
    """If only mode, owner or attributes were changed, no content was saved: these are restored on the present file."""
    if file.now is not None and file.now.type == old.type:
        dressed = replace(file.now, mode=old.mode, uid=old.uid, gid=old.gid, attributes=old.attributes)
        tree.dress(file.path, file.now, dressed)


def _content(entry: Entry) -> tuple[str, str]:
    return entry.digest, entry.target
