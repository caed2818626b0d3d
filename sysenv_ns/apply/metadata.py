"""PURE: describes every change of modes, owners, capabilities and attributes in words."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.plan import Owner
from sysenv_ns.kernel import capabilities

_USUAL = {"directory": 0o755}
_MODE = 0o644  # of all others
_BITS = ((stat.S_ISUID, "setuid"), (stat.S_ISGID, "setgid"), (stat.S_ISVTX, "sticky"))


def differences(old: Entry | None, new: Entry, was: Owner, owner: Owner) -> Iterator[str]:
    """The changes between an old and a new entry; a new file is compared with the usual values."""
    yield from _mode(old, new)
    if owner != was:
        yield f"owner {_named(was)} -> {_named(owner)}" if old else f"owner {_named(owner)}"
    same = old if old and old.type == new.type else None
    yield from _capabilities(capabilities_of(same) if same else "", capabilities_of(new))
    yield from _attributes(same, new)


def bits(mode: int) -> str:
    """A mode in octal, with the names of its bits that are not permissions."""
    names = [name for bit, name in _BITS if mode & bit]
    return f"{mode:04o} ({', '.join(names)})" if names else f"{mode:04o}"


def capabilities_of(entry: Entry) -> str:
    """A file's capabilities by name; "" for none."""
    value = dict(entry.attributes).get(capabilities.ATTRIBUTE)
    if value is None:
        return ""
    try:
        return capabilities.text(capabilities.parse(bytes.fromhex(value)))
    except ValueError:
        return f"unknown ({value})"


def _mode(old: Entry | None, new: Entry) -> Iterator[str]:
    """The mode, if it changes or is unusual; setuid and setgid bits are always shown. Nothing for symbolic links."""
    if new.type == "symlink":
        return
    if old is not None and old.type != "symlink":
        if old.mode != new.mode:
            yield f"mode {bits(old.mode)} -> {bits(new.mode)}"
            return
        is_told = bool(new.mode & (stat.S_ISUID | stat.S_ISGID))
    else:
        is_told = new.mode != _USUAL.get(new.type, _MODE)
    if is_told:
        yield f"mode {bits(new.mode)}"


def _named(owner: Owner) -> str:
    return ":".join(owner)


def _capabilities(old: str, new: str) -> Iterator[str]:
    if old and old != new:
        yield f"capabilities {old} -> {new or 'none'}"
    elif new:
        yield f"capabilities {new}"


def _attributes(old: Entry | None, new: Entry) -> Iterator[str]:
    before, after = (dict(entry.attributes) if entry else {} for entry in (old, new))
    for name in sorted({*before, *after} - {capabilities.ATTRIBUTE}):
        if before.get(name) != after.get(name):
            what = "removed" if name not in after else "changed" if name in before else "added"
            yield f"attribute {name} {what}"
