"""Carries out a plan on this system, as root; each step is written to the journal before it is done (journal.py).

Nothing is changed before all contents have arrived, and everything to be replaced was found as the plan says.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sysenv_ns.apply import apt, entries, journal, undo
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.journal import Journal, Note
from sysenv_ns.apply.plan import PackageStep, Plan, Step
from sysenv_ns.apply.tree import TargetTree, copy
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import reader
from sysenv_ns.host import accounts
from sysenv_ns.host.accounts import Accounts
from sysenv_ns.kernel.mountinfo import ancestors


@dataclass(frozen=True)
class Done:
    """The result of an apply."""

    ident: str
    skipped: tuple[str, ...] = ()  # paths with the reason


def carry_out(tree: TargetTree, backups: Path, plan: Plan, stream: int) -> Done:
    """Carry out a plan, with contents from a pipe in its order: files, then packages. Raises SysenvError, OSError."""
    with journal.locked(backups):
        own = journal.begin(backups, plan)
        try:
            _receive(own, plan, stream)
            _check(tree, plan)
            _keep_all(tree, own, plan)
            if not plan.changes_sources:
                apt.check(plan.packages, _places(own, plan.packages))
        except BaseException:
            shutil.rmtree(own.directory)
            raise
        return _Carrier(tree, own, plan).run()


def _receive(own: Journal, plan: Plan, stream: int) -> None:
    contents = [
        (own.place("new", number), step.new.size, step.new.digest)
        for number, step in enumerate(plan.steps)
        if step.has_content and step.new
    ]
    places = _places(own, plan.packages)
    contents += [(Path(places[p.name]), p.size, p.digest) for p in plan.packages if p.file]
    for place, size, digest in contents:
        with open(place, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as target:
            if copy(stream, target.fileno(), size) != digest:
                raise SysenvError("the environment has changed in the meantime", "nothing was done; run it again")


def _check(tree: TargetTree, plan: Plan) -> None:
    for step in plan.steps:
        if not entries.same(_read(tree, step.path), step.old):
            raise SysenvError(
                f"{step.path} has changed on this system in the meantime", "nothing was done; run it again"
            )
    made = {step.path for step in plan.steps if step.new and step.new.type == "directory"}
    for step in plan.steps:
        if step.new and os.path.dirname(step.path) not in made:
            _check_parent(tree, step.path)


def _keep_all(tree: TargetTree, own: Journal, plan: Plan) -> None:
    """Save the contents of everything that will be replaced, before anything is."""
    for number, step in enumerate(plan.steps):
        if step.old and step.old.type == "file" and (step.action != "metadata" or plan.packages):
            _keep(tree, own.place("old", number), step.path, step.old)


def _keep(tree: TargetTree, place: Path, path: str, entry: Entry) -> None:
    with open(place, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as target:
        if tree.copy_content(path, target.fileno()) != entry.digest:
            raise SysenvError(f"{path} was changed while it was read", "run it again")
        os.fsync(target.fileno())


def _check_parent(tree: TargetTree, path: str) -> None:
    """Check the parent of a path: a package may bring a missing one, an existing one must be a directory."""
    try:
        with tree.parent(path):
            pass
    except FileNotFoundError:
        pass
    except OSError as error:
        what = f"{os.path.dirname(path)} is not a directory of this system: {reason(error)}"
        raise SysenvError(what, "nothing was done") from error


def _read(tree: TargetTree, path: str) -> Entry | None:
    try:
        return tree.read(path)
    except OSError as error:
        raise SysenvError(f"{path} cannot be read on this system: {reason(error)}", "nothing was done") from error


def _places(own: Journal, packages: tuple[PackageStep, ...]) -> dict[str, str]:
    files = (package.name for package in packages if package.file)
    return {name: str(own.place("debs", f"{number}.deb")) for number, name in enumerate(files)}


class _Carrier:
    def __init__(self, tree: TargetTree, own: Journal, plan: Plan) -> None:
        self._tree, self._journal, self._plan = tree, own, plan
        self._skipped: dict[str, str] = {}
        self._written: dict[str, Entry] = {}

    def run(self) -> Done:
        self._or_undo(lambda: self._steps(of_sources=True))
        if self._plan.changes_sources:
            self._or_undo(self._look_anew)
        if packages := self._plan.packages:
            self._journal.note(Note(packages=apt.states([p.name for p in packages])))
            self._or_say(lambda: apt.install(packages, _places(self._journal, packages)))
            self._journal.note(Note(installed=True))
        self._or_say(lambda: self._steps(of_sources=False))
        for name in ("new", "debs"):
            shutil.rmtree(self._journal.directory / name)
        self._journal.note(Note(end=True))
        return Done(self._journal.ident, tuple(self._skipped.values()))

    def _look_anew(self) -> None:
        apt.update()
        apt.check(self._plan.packages, _places(self._journal, self._plan.packages))

    def _or_undo(self, action: Callable[[], None]) -> None:
        """Run an action; if it fails, undo everything, which is still possible before packages are changed."""
        try:
            action()
        except (SysenvError, OSError) as error:
            message = error.message if isinstance(error, SysenvError) else reason(error)
            hint = "apt's sources are restored, and nothing else was done"
            try:
                undo.take_back(self._tree, self._journal, undo.plan(self._tree, self._journal), force=False)
            except SysenvError as again:
                hint = f"undoing the changes failed: {again.message}"
            raise SysenvError(message, hint) from error

    def _or_say(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (SysenvError, OSError) as error:
            path = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            message = error.message if isinstance(error, SysenvError) else f"{reason(error)}{path}"
            hint = f"undo what was done so far: sysenv-ns apply --undo {self._journal.ident}"
            raise SysenvError(message, hint) from error

    def _steps(self, of_sources: bool) -> None:
        known = read_accounts(self._tree)
        for number, step in enumerate(self._plan.steps):
            if step.of_sources == of_sources:
                self._step(number, step, known)

    def _step(self, number: int, step: Step, known: Accounts) -> None:
        now = self._tree.read(step.path)
        is_made = not entries.same(now, step.old)  # by the packages' scripts, just before
        if is_made and (step.of_sources or not self._plan.packages):
            raise SysenvError(f"{step.path} has changed on this system in the meantime")
        # Another name has all that the file has which it is a name of.
        new = self._written.get(step.link) if step.link else step.new and _owned(step, step.new, now, known)
        if step.new is not None and (new is None or self._skipped.keys() & {*ancestors(step.path)}):
            self._skipped[step.path] = f"{step.path}: there is no {step.user}:{step.group} on this system"
            return
        if now and now.has_acl:
            self._skipped[step.path] = f"{step.path}: a package's script has given it an access control list"
            return
        if is_made and now and now.type == "file":
            _keep(self._tree, self._journal.place("made", number), step.path, now)
        self._journal.note(Note(number, step.old, now, new))
        self._do(number, step, now, new)

    def _do(self, number: int, step: Step, now: Entry | None, new: Entry | None) -> None:
        temporary = self._journal.temporary(number)
        if new is None:
            if now is not None:
                self._tree.remove(step.path)
            return
        if step.action == "metadata" and now is not None and now.type == new.type:
            self._tree.dress(step.path, now, new)
        elif step.link:
            self._tree.link(step.path, step.link, temporary, new)
        elif step.has_content:
            with reader.stream(self._journal.place("new", number)) as source:
                self._tree.put(step.path, new, temporary, source.fileno())
        else:
            self._tree.put(step.path, new, temporary)
        self._written[step.path] = new


def read_accounts(tree: TargetTree) -> Accounts:
    """Users and groups from this system's files: package scripts may just have created some."""
    contents = []
    for path in accounts.PATHS:
        with tree.parent(path) as (directory, name):
            descriptor = entries.open_file(directory, name)
        with open(descriptor, "rb") as stream:
            contents.append(stream.read())
    return accounts.parse(*contents)


def _owned(step: Step, new: Entry, old: Entry | None, known: Accounts) -> Entry | None:
    """The new entry with its owner's numbers; None if that owner does not exist here."""
    uid = known.users.get(step.user) if step.user else old.uid if old else 0
    gid = known.groups.get(step.group) if step.group else old.gid if old else 0
    if uid is None or gid is None:
        return None
    kept = old if old and step.action == "metadata" and old.type == new.type else new
    return replace(kept, mode=new.mode, uid=uid, gid=gid, attributes=new.attributes)
