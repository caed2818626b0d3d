"""PURE: which plans root accepts: only those of which the user was shown everything that they do."""

from __future__ import annotations

from sysenv_ns.apply import entries, plan
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.plan import Plan, Step
from sysenv_ns.diff.changes import FileType
from sysenv_ns.kernel import capabilities

_MADE: tuple[FileType, ...] = ("file", "directory", "symlink", "fifo")


def checked(agreed: Plan) -> Plan:
    """The plan itself. Raises ValueError for one that would do something else than what is shown of it."""
    if plan.ordered(agreed.steps) != agreed.steps or len({step.path for step in agreed.steps}) != len(agreed.steps):
        raise ValueError("the steps are out of order")
    before: dict[str, Step] = {}
    for step in agreed.steps:
        if why := _wrong(step, before):
            raise ValueError(f"wrong step at {step.path!r}: {why}")
        before[step.path] = step
    return agreed


def _wrong(step: Step, before: dict[str, Step]) -> str:
    """What is wrong with a step, or "". `before`: the steps that are done earlier."""
    if why := plan.of_machine(step.path, named=True, goes=False):
        return why
    if step.action == "delete":
        return "" if step.new is None and not step.link else "it is both deleted and created"
    if step.action not in ("put", "metadata") or step.new is None:
        return f"unknown action {step.action!r}"
    return _wrong_entry(step.new) or _wrong_place(step, before)


def _wrong_place(step: Step, before: dict[str, Step]) -> str:
    if step.of_sources != plan.is_of_sources(step.path):
        return "it is out of order"
    if step.action == "metadata":
        return "" if _is_dressed(step) else "its content differs"
    return "" if not step.link or _is_linked(step, before.get(step.link)) else f"it differs from {step.link!r}"


def _wrong_entry(entry: Entry) -> str:
    if entry.type not in _MADE:
        return f"apply creates no {entry.type}"
    if not 0 <= entry.mode <= 0o7777 or entry.size < 0:
        return "wrong numbers"
    for name, value in entry.attributes:
        data = bytes.fromhex(value)
        if not entries.is_kept(name):
            return f"the attribute {name!r} is not applied"
        if name == capabilities.ATTRIBUTE:
            capabilities.parse(data)
    return ""


def _is_dressed(step: Step) -> bool:
    old, new = step.old, step.new
    if old is None or new is None or step.link:
        return False
    return (old.type, old.size, old.digest, old.target) == (new.type, new.size, new.digest, new.target)


def _is_linked(step: Step, other: Step | None) -> bool:
    """Whether a hard link is shown with the properties of the file that it is linked to."""
    if other is None or other.of_sources != step.of_sources or other.new is None or other.action != "put":
        return False
    return other.new.type == "file" and other.owner == step.owner and entries.same(other.new, step.new)
