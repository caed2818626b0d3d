"""Plans how an environment is moved onto today's host; only reads. rebasing.py carries the plan out."""

from __future__ import annotations

from sysenv_ns.packages import databases, dpkg, merge
from sysenv_ns.rebase.package_files import PackageFiles
from sysenv_ns.rebase.plan import Plan, Sides
from sysenv_ns.upper import view
from sysenv_ns.upper.view import Upper, View


def plan(old: databases.Old, below: View, upper: Upper) -> Plan:
    """Everything that a rebase does. Raises OSError."""
    sides = Sides(old, below, upper)
    result = Plan()
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
    result.owned, notes = databases.ownership(sides.new, accounts)
    result.notes += notes
    for path, entry in upper.entries.items():
        if entry.kind == "whiteout" and path not in result.hidden and below.status(path) is None:
            result.dropped.add(path)  # it hides nothing any more
    result.libraries = sides.entry("/etc/ld.so.cache") is not None
    return result


def _settle(sides: Sides, path: str, content: bytes, result: Plan) -> None:
    """Let a database be the host's own file where that says the same."""
    if content == sides.new.read(path):
        real = sides.new.real(path)
        if sides.upper.get(real) is not None and not sides.upper.covers(real):
            result.dropped.add(real)
            return
    if content != sides.own.read(path):
        result.written[path] = content


def _alternatives(sides: Sides, result: Plan) -> None:
    """The groups that the environment has changed; all others are the host's."""
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


def _alike(sides: Sides, path: str) -> str | None:
    """The real path, if the environment's file there is the same as the host's."""
    real = sides.new.real(path)
    entry, status = sides.upper.get(real), sides.new.status(real)
    if entry is None or entry.kind != "file" or status is None or sides.upper.covers(real):
        return None
    return real if view.is_like(entry.place, sides.new.place(real), (entry.status, status)) else None
