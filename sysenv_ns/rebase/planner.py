"""Plans how an environment is updated to today's host; only reads. rebase.py carries out the plan."""

from __future__ import annotations

from sysenv_ns.files import upper
from sysenv_ns.files.upper import Upper, UpperEntry
from sysenv_ns.files.view import View
from sysenv_ns.packages import databases, dpkg, merge
from sysenv_ns.packages.old import Old
from sysenv_ns.rebase.package_files import PackageFiles
from sysenv_ns.rebase.plan import MergeSides, RebasePlan


def plan(old: Old, below: View, upper: Upper) -> RebasePlan:
    """The plan of a rebase. Raises OSError."""
    sides = MergeSides(old, below, upper)
    result = RebasePlan()
    decisions = databases.decisions(sides.old, sides.new, sides.own, sides.unpacked)
    result.unsound = databases.unsound(sides.new, sides.own)
    result.packages = [d for d in decisions.values() if d.why != "same" and (d.old or d.new)]
    merged = databases.Merged(sides.old, sides.new, sides.own, decisions)
    PackageFiles(sides, decisions, merged.diversions, result).plan()
    for path, content in merged.contents():
        _settle(sides, path, content, result)
    _alternatives(sides, result)
    accounts = databases.accounts(sides.old, sides.new, sides.own)
    for path, content in accounts.contents.items():
        if sides.entry(path) is not None:
            _settle(sides, path, content, result)
    result.owned = {
        path: owner
        for path, owner in databases.ownership(sides.new, accounts).items()
        if not _belongs_to(upper.get(path), owner)  # since an earlier rebase
    }
    result.notes += accounts.notes
    for path, entry in upper.entries.items():
        if entry.kind == "whiteout" and path not in result.hidden and below.status(path) is None:
            result.dropped.add(path)  # it hides nothing any more
    result.libraries = sides.entry("/etc/ld.so.cache") is not None
    return result


def _belongs_to(entry: UpperEntry | None, owner: tuple[int, int]) -> bool:
    return entry is not None and (entry.status.st_uid, entry.status.st_gid) == owner


def _settle(sides: MergeSides, path: str, content: bytes, result: RebasePlan) -> None:
    """Use the host's own file for a database with the same content."""
    if content == sides.new.read(path):
        real = sides.new.real(path)
        if sides.upper.get(real) is not None and not sides.upper.covers(real):
            result.dropped.add(real)
            return
    if content != sides.own.read(path):
        result.written[path] = content


def _alternatives(sides: MergeSides, result: RebasePlan) -> None:
    """Merge the groups that the environment has changed; all others are the host's."""
    for name in sides.upper.below(sides.new.real(dpkg.ALTERNATIVES)):
        path = f"{dpkg.ALTERNATIVES}/{name}"
        contents = (sides.old.read(path), sides.new.read(path), sides.own.read(path))
        if contents[2] is None:  # taken away
            continue
        try:
            old, new, own = (dpkg.parse_alternatives(data) if data else None for data in contents)
        except ValueError as error:
            result.notes.append(f"the alternatives of {name} stay as they are: {error}")
            continue
        assert own is not None
        merged = merge.alternatives(old, new, own)
        if merged == new:
            result.dropped.add(sides.new.real(path))
            links = [f"/etc/alternatives/{link}" for link in (name, *merged.slaves)] + [merged.link]
            result.dropped |= {real for link in (*links, *merged.slaves.values()) if (real := _alike(sides, link))}
        elif merged != own or old != new:
            result.written[path] = dpkg.format_alternatives(merged)
            link = sides.own.link(f"/etc/alternatives/{name}") if merged.status == "manual" else ""
            result.alternatives[name] = link or ""


def _alike(sides: MergeSides, path: str) -> str | None:
    """The real path, if the environment's file there is the same as the host's."""
    real = sides.new.real(path)
    entry = sides.upper.get(real)
    if entry is None or entry.kind != "file" or sides.upper.covers(real):
        return None
    return real if upper.is_like(entry, sides.new, real) else None
