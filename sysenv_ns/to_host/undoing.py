"""Takes an apply back, as root: by what its journal says and what is there now; it can be interrupted and run again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sysenv_ns.diff import changes
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.to_host import apt, entries
from sysenv_ns.to_host.entries import Entry
from sysenv_ns.to_host.journal import Journal
from sysenv_ns.to_host.plan import Package, Plan
from sysenv_ns.to_host.tree import Tree

State = Literal["undo", "changed"]  # changed: by somebody else since
Backup = Literal["old", "made"]  # whose content comes back: what was there, or what a new package had put there


@dataclass(frozen=True)
class Restored:
    """A path that becomes what it was."""

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
    """What is to be done to take an apply back."""

    ident: str
    name: str
    packages: tuple[Package, ...]
    unavailable: tuple[str, ...]  # packages whose version of before apt cannot get
    files: tuple[Restored, ...]
    finished: bool  # whether the apply came to its end
    repair: bool  # whether dpkg may have been interrupted


def as_data(undo: Undo) -> dict[str, Any]:
    """For JSON."""
    return asdict(undo)


def plan(tree: Tree, journal: Journal) -> Undo:
    """Find out what there is to do. Raises SysenvError, OSError."""
    agreed, records = journal.plan(), journal.records()
    files = tuple(reversed(list(_files(tree, agreed, records))))
    before: dict[str, tuple[str, bool]] = next((record["packages"] for record in records if "packages" in record), {})
    packages, unavailable = _packages(before)
    finished = any("end" in record for record in records)
    repair = bool(before) and not any("installed" in record for record in records)
    return Undo(journal.ident, agreed.name, packages, unavailable, files, finished, repair)


def _files(tree: Tree, agreed: Plan, records: list[dict[str, Any]]) -> Iterator[Restored]:
    begun = [record for record in records if "begin" in record]
    touched = {record["restore"] for record in records if "restore" in record}
    if not any("end" in record for record in records):
        touched |= {record["begin"] for record in begun[-1:]}
    for record in begun:
        step = agreed.steps[record["begin"]]
        old, made, new = (entries.from_data(record[name]) for name in ("old", "now", "new"))
        try:
            now = tree.read(step.path)
        except OSError as error:
            raise SysenvError(f"{step.path} cannot be read on this system: {reason(error)}") from error
        if not entries.same(now, old):
            ours = entries.same(now, new) or (record["begin"] in touched and _is_between(now, (old, made, new)))
            state: State = "undo" if ours else "changed"
            target, backup = _wanted(old, made)
            if not entries.same(now, target):
                yield Restored(record["begin"], step.path, state, target, new, now, step.of_sources, backup)


def _wanted(old: Entry | None, made: Entry | None) -> tuple[Entry | None, Backup]:
    """What comes back: dpkg takes away by itself what a new package had brought, and what is missing for deleted."""
    return (old, "old") if old is not None or made is None else (made, "made")


def _is_between(now: Entry | None, states: Iterable[Entry | None]) -> bool:
    """Whether it is what an interrupted step leaves: contents change at once, but owners, modes one by one."""
    return now is None or any(side and side.type == now.type and _content(side) == _content(now) for side in states)


def _packages(before: dict[str, tuple[str, bool]]) -> tuple[tuple[Package, ...], tuple[str, ...]]:
    """What differs from before the apply, of the packages that it was about."""
    now = apt.states(before) if before else {}
    found = [
        Package(name, changes.package_kind(now[name][0], version), now[name][0], version, automatic)
        for name, (version, automatic) in before.items()
        if now[name][0] != version
    ]
    if not any(package.new for package in found):
        return tuple(found), ()
    available = apt.available(package.name for package in found if package.new)
    lost = {package for package in found if package.new and (package.name, package.new) not in available}
    return tuple(p for p in found if p not in lost), tuple(sorted(f"{p.name} {p.new}" for p in lost))


def take_back(tree: Tree, journal: Journal, undo: Undo, force: bool) -> tuple[str, ...]:
    """Do it; what somebody has changed since stays, unless forced. Gives those paths. Raises SysenvError, OSError."""
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
        journal.note(undone=True)
    if sources:
        apt.update()
    return left


def _restore_again(tree: Tree, journal: Journal, undo: Undo, kept: Iterable[str]) -> None:
    """A package's version of before brings its own files, also where somebody had put others."""
    for file in undo.files:
        now = tree.read(file.path)
        if file.backup == "old" and file.path not in kept and not file.of_sources and not entries.same(now, file.old):
            _put_back(tree, journal, replace(file, now=now), journal.temporary(file.number))


def _restore(tree: Tree, journal: Journal, file: Restored, force: bool) -> str:
    """What was there is there again; the path when it is not, because it would be lost what somebody has made."""
    temporary = journal.temporary(file.number)
    if file.state == "changed" and not force:
        return file.path
    if file.now is not None and file.state == "changed":
        _keep(tree, journal, file)
    journal.note(restore=file.number)
    try:
        _put_back(tree, journal, file, temporary)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return file.path  # somebody has put something into the directory
    return ""


def _keep(tree: Tree, journal: Journal, file: Restored) -> None:
    """What is overwritten by force is still there beside the backup."""
    if file.now is None or file.now.type != "file":
        return
    (journal.directory / "forced").mkdir(mode=0o700, exist_ok=True)
    with open(journal.place("forced", file.number), "wb") as target:
        tree.copy_content(file.path, target.fileno())
        os.fsync(target.fileno())


def _put_back(tree: Tree, journal: Journal, file: Restored, temporary: str) -> None:
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
        with open(place, "rb") as source:
            tree.put(file.path, old, temporary, source.fileno())
    else:
        tree.put(file.path, old, temporary)


def _dress(tree: Tree, file: Restored, old: Entry) -> None:
    """Of a file whose mode, owner or attributes alone were changed no content is kept: they return to what is there."""
    if file.now is not None and file.now.type == old.type:
        dressed = replace(file.now, mode=old.mode, uid=old.uid, gid=old.gid, attributes=old.attributes)
        tree.dress(file.path, file.now, dressed)


def _content(entry: Entry) -> tuple[str, str]:
    return entry.digest, entry.target
