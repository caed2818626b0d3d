"""The part of a rebase's plan that is about the files of packages; only reads.

A package comes as a whole from one side (merge.py): from the host, unless the environment has added, changed or removed
it. Its files follow; the host's are in the layers below, the environment's in its upper directory:

- the host's: the environment's copies are dropped, as they would hide the new version; edited files are kept;
- the environment's: files that only the host's version has are hidden.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from sysenv_ns.files import upper, view
from sysenv_ns.files.upper import UpperEntry
from sysenv_ns.packages import dpkg
from sysenv_ns.packages.dpkg import Diversion, Package
from sysenv_ns.packages.merge import Decision
from sysenv_ns.rebase.plan import DIST_SUFFIX, Copy, MergeSides, RebasePlan


class PackageFiles:
    """Fills in that part."""

    def __init__(
        self, sides: MergeSides, decisions: dict[str, Decision], diversions: dict[str, Diversion], result: RebasePlan
    ) -> None:
        self._sides, self._new, self._upper, self._plan = sides, sides.new, sides.upper, result
        self._decisions = decisions.values()
        self._diversions = diversions
        self._old_diversions = dpkg.parse_diversions(sides.new.read(dpkg.DIVERSIONS) or b"")
        self._moved = self._diversions.keys() | self._old_diversions.keys()
        self._alone: dict[str, bool] = {}  # by directory: whether the environment has changed nothing in it and below
        self._overrides = {line.split(b" ", 3)[-1] for line in (sides.own.read(dpkg.STATOVERRIDE) or b"").splitlines()}
        self._news = dpkg.parse_status(sides.new.read(dpkg.STATUS) or b"")
        self._owns = dpkg.parse_status(sides.own.read(dpkg.STATUS) or b"")
        self._host_paths: set[str] = set()  # of packages that come from the host, where the environment has changes
        self._mine = {
            self._new.real(dpkg.diverted(path, d.package.name, diversions))
            for d in self._decisions
            if d.side == "own" and d.package
            for path in self._list(d.package, own=True)
        }

    def plan(self) -> None:
        """Fill the plan."""
        touched = [d for d in self._decisions if d.side == "host" and self._is_touched(d)]
        for decision in touched:
            self._from_host(decision)
        self._reveal()
        self._hide([d for d in self._decisions if d.side == "own" and d.key in self._news])
        self._info()
        self._conffiles(touched)
        self._triggers(d for d in touched if d.why != "same")

    def _is_touched(self, decision: Decision) -> bool:
        own = self._owns.get(decision.key)
        return decision.why != "same" or (own is not None and own.stem in self._sides.unpacked)

    def _list(self, package: Package, own: bool) -> list[str]:
        return dpkg.parse_list(self._listed(package, own))

    def _listed(self, package: Package, own: bool) -> bytes:
        read = self._sides.own.read if own else self._new.read
        return read(f"{dpkg.INFO}/{package.stem}.list") or b""

    def _from_host(self, decision: Decision) -> None:
        """Handle the environment's copies of the files of a package that becomes the host's."""
        new, own = self._news.get(decision.key), self._owns.get(decision.key)
        unpacked = own is not None and own.stem in self._sides.unpacked
        checksums = dict[str, str]()
        if own is not None and unpacked:
            checksums = dpkg.parse_checksums(self._sides.own.read(f"{dpkg.INFO}/{own.stem}.md5sums") or b"")
        conffiles = {*(new.conffiles if new else ()), *(own.conffiles if own else ())}
        listed = self._listed(new, own=False) if new and new.has_files else b""
        name = decision.key.partition(":")[0]

        def checksum(path: str) -> str | None:
            return checksums.get(path) or self._sides.old.checksums.get(path)

        for path in self._touched(listed):
            now, then = (dpkg.diverted(path, name, side) for side in (self._diversions, self._old_diversions))
            target = self._new.real(now)
            source = target if then == now else self._new.real(then)
            self._host_paths.add(target)
            if source != target:
                self._copy(source, target)
            elif path not in conffiles:
                self._show(target, decision, unpacked, partial(checksum, path))
        if own is not None and unpacked:
            for path in set(self._list(own, own=True)) - {*dpkg.parse_list(listed), *conffiles}:
                self._forget(self._new.real(path), checksum(path))

    def _touched(self, data: bytes) -> Iterator[str]:
        """Those paths of a list that are diverted, or in directories where the environment has changed something.

        Of 70,000 files of a hundred packages these are a few, and all others are the host's anyway.
        """
        alone = self._alone
        listed = dpkg.Listed(data)
        new = sorted(listed.directories - alone.keys())
        alone |= {path: self._upper.leaves_alone(real) for path, real in self._new.real_directories(new).items()}
        yield from listed.paths({directory for directory in listed.directories if not alone[directory]}, self._moved)

    def _copy(self, source: str, target: str) -> None:
        """Show the host's file under another name."""
        entry = self._upper.get(target)
        if entry is None or entry.kind != "file" or not upper.is_like(entry, self._new, source):
            self._plan.copies.append(Copy(source, target))

    def _show(self, path: str, decision: Decision, unpacked: bool, checksum: Callable[[], str | None]) -> None:
        """Show the host's file at `path`."""
        for cover, entry in self._upper.covers(path):
            if entry.opaque:
                self._plan.opened.add(cover)
            elif entry.kind == "whiteout":
                self._plan.dropped.add(cover)
        entry_here = self._upper.get(path)
        if entry_here is None or entry_here.kind == "directory":
            if entry_here is not None and entry_here.opaque:
                self._plan.opened.add(path)
            return
        if entry_here.kind == "whiteout":  # as unpacking the new version would make it again
            if decision.why != "same":
                self._plan.dropped.add(path)
        elif path in self._mine:
            self._plan.notes.append(
                f"{path} stays: it belongs to a package of the environment, and to the host's {decision.key} too"
            )
        else:
            self._replace(path, entry_here, unpacked, checksum)

    def _replace(self, path: str, entry: UpperEntry, unpacked: bool, checksum: Callable[[], str | None]) -> None:
        if self._new.status(path) is None:
            return
        if upper.is_like(entry, self._new, path):
            self._plan.dropped.add(path)
        elif stat.S_ISLNK(entry.status.st_mode) or not stat.S_ISREG(entry.status.st_mode):
            if unpacked:
                self._plan.dropped.add(path)
        elif (known := checksum()) is None or entry.checksum() != known:
            self._plan.notes.append(f"{path} stays: it was changed here")
        elif unpacked and os.fsencode(path) not in self._overrides:
            self._plan.dropped.add(path)
        elif not view.same_content(entry.stream(), self._new.stream(path)):
            # Only its mode, owner or attributes are the environment's.
            self._plan.copies.append(Copy(path, path, keep=True))

    def _forget(self, path: str, checksum: str | None) -> None:
        """Handle a file that the environment's dpkg unpacked and that the host's version no longer has."""
        entry = self._upper.get(path)
        if entry is None or entry.kind != "file" or path in self._mine or path in self._host_paths:
            return
        if not stat.S_ISREG(entry.status.st_mode) or entry.checksum() == checksum:
            self._plan.dropped.add(path)

    def _reveal(self) -> None:
        """Keep what the environment has deleted in an opaque directory hidden when it becomes an ordinary one."""
        opened = self._plan.opened
        opened |= {cover for path in opened for cover, entry in self._upper.covers(path) if entry.opaque}
        waiting = sorted(opened)
        while waiting:
            directory = waiting.pop()
            for name in self._new.names(directory):
                path = f"{directory}/{name}"
                entry = self._upper.get(path)
                status = self._new.status(path)
                is_directory = status is not None and stat.S_ISDIR(status.st_mode)
                if (entry is None and is_directory) or (entry is not None and entry.kind == "directory"):
                    waiting.append(path)
                if entry is None and path not in self._host_paths:
                    self._plan.hidden.add(path)

    def _hide(self, decisions: list[Decision]) -> None:
        """Hide files that only the host's version of a package has, if the environment has its own version, or none."""
        unwanted: set[str] = set()
        for decision in decisions:
            name = decision.key.partition(":")[0]
            kept = set(self._list(decision.package, own=True)) if decision.package else set()
            for path in set(self._list(self._news[decision.key], own=False)) - kept:
                unwanted.add(self._new.real(dpkg.diverted(path, name, self._old_diversions)))
        if not unwanted:
            return
        for decision in self._decisions:  # what belongs to another package too stays
            if decision.package is not None:
                listed = self._list(decision.package, own=decision.side == "own")
                unwanted -= {self._new.real(dpkg.diverted(p, decision.package.name, self._diversions)) for p in listed}
        for path in unwanted:
            entry = self._upper.get(path)
            covered = entry is not None or any(cover not in self._plan.opened for cover, _ in self._upper.covers(path))
            if (not covered or path in self._plan.dropped) and self._new.status(path) is not None:
                self._plan.hidden.add(path)
                self._plan.dropped.discard(path)

    def _info(self) -> None:
        """Take the info files of the side that the package comes from."""
        info = self._new.real(dpkg.INFO)
        below: dict[str, list[str]] = {}
        for name in self._new.names(dpkg.INFO) if any(d.side == "own" for d in self._decisions) else ():
            below.setdefault(name.rpartition(".")[0], []).append(name)
        above: dict[str, list[str]] = {}
        for name in self._upper.below(info):
            above.setdefault(name.rpartition(".")[0], []).append(name)
        for decision in self._decisions:
            if decision.why == "same" and decision.side == "host" and not above:
                continue
            stems = {p[decision.key].stem for p in (self._news, self._owns) if decision.key in p}
            for stem in stems:
                if decision.side == "host":
                    self._plan.dropped |= {f"{info}/{name}" for name in above.get(stem, ())}
                    self._share(decision, stem, f"{stem}.list" in above.get(stem, ()))
                else:
                    kept = {f"{stem}.list", f"{stem}.postrm"} if decision.package else set()
                    names = set(below.get(stem, ())) - set(above.get(stem, ()))
                    self._plan.hidden |= {f"{info}/{name}" for name in names - kept}

    def _share(self, decision: Decision, stem: str, was_changed: bool) -> None:
        """Remove from a list the files that a package of the environment has taken over (Replaces, deb-control(5))."""
        new = self._news.get(decision.key)
        if not self._mine or new is None or new.stem != stem or (decision.why == "same" and not was_changed):
            return
        path = f"{dpkg.INFO}/{stem}.list"
        data = self._new.read(path) or b""
        taken = {p for p in dpkg.parse_list(data) if self._new.real(p) in self._mine and self._is_file(p)}
        if taken:
            lines = (line for line in os.fsdecode(data).split("\n") if line not in taken)
            self._plan.dropped.discard(self._new.real(path))
            if (content := os.fsencode("\n".join(lines))) != self._sides.own.read_above(path):
                self._plan.written[path] = content

    def _is_file(self, path: str) -> bool:
        entry = self._sides.entry(path)
        return entry is not None and entry.kind == "file"

    def _conffiles(self, touched: list[Decision]) -> None:
        for decision in touched:
            own = self._owns.get(decision.key)
            for path, shipped in (decision.package.conffiles if decision.package else {}).items():
                self._conffile_of_host(path, {shipped, *([own.conffiles.get(path, "")] if own else ())})
        for decision in self._decisions:
            if decision.side == "own" and decision.package is not None:
                for path in decision.package.conffiles:
                    self._conffile_of_own(path)

    def _conffile_of_host(self, path: str, shipped: set[str]) -> None:
        """Merge a conffile: the changed side's if one side changed it, the environment's if both did."""
        real = self._new.real(path)
        entry = self._upper.get(real)
        if entry is None or entry.kind != "file" or (new := self._new.read(path)) is None:
            return
        own = self._sides.own.read(path)
        if own == new or _digest(own or b"") in shipped:
            self._plan.dropped.add(real)
        elif self._sides.old.read(path) != new:
            self._plan.copies.append(Copy(real, f"{real}{DIST_SUFFIX}"))
            self._plan.notes.append(f"{path} stays as it was edited here; the host's is beside it: {path}{DIST_SUFFIX}")

    def _conffile_of_own(self, path: str) -> None:
        """Keep a conffile that the environment never wrote from becoming that of the host's version."""
        real, old = self._new.real(path), self._sides.old.read(path)
        if old is None or self._upper.get(real) is not None or self._upper.covers(real):
            return
        if self._new.read(path) != old:
            self._plan.written[path] = old
            self._plan.hidden.discard(real)

    def _triggers(self, changed: Iterable[Decision]) -> None:
        """The triggers that unpacking the host's new versions would activate: caches may have its own files too."""
        if not any(d.side == "own" for d in self._decisions):
            return
        lines = (self._sides.own.read(f"{dpkg.TRIGGERS}/File") or b"").splitlines()
        wanted = {os.fsdecode(interest) for line in lines if (interest := line.rpartition(b" ")[0])}
        for decision in changed:
            package = self._news.get(decision.key)
            for path in self._list(package, own=False) if package else ():
                self._plan.triggers |= {t for t in wanted if path == t or path.startswith(f"{t}/")}


def _digest(data: bytes) -> str:
    import hashlib

    return hashlib.md5(data, usedforsecurity=False).hexdigest()
