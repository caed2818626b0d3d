"""PURE: which changed files of an environment a manifest includes, and why not the others."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sysenv_ns.diff.changes import Change
from sysenv_ns.kernel.mountinfo import ancestors
from sysenv_ns.text import is_text

TEXT_LIMIT = 16 << 10  # bytes of a file that is written into a manifest
BINARY_LIMIT = 4 << 10
_TREE_LIMIT = 20  # files of a new directory, beyond which it is something that was unpacked or built

# Where people put files by hand; elsewhere what belongs to no package was made by one, or is data.
_BY_HAND = re.compile(r"/(etc|opt|srv|usr/local)/.*", re.DOTALL)
# There, what packages' scripts make.
_BY_PACKAGES = re.compile(
    r"/etc/((passwd|group|shadow|gshadow|subuid|subgid)-?|\.pwd\.lock|\.updated|alternatives(/.*)?|ca-certificates\.conf"
    r"|debian_chroot|environment|init\.d/\.depend\..*|ld\.so\.cache|mailcap|machine-id|rc[0-9S]\.d(/.*)?|shells"
    r"|ssh/ssh_host_.*|ssl/(certs|private)(/.*)?|systemd/(system|user)/.*\.(wants|requires)(/.*)?)",
    re.DOTALL,
)

MAYBE_SECRET = "it is not readable by everybody, so it may hold a secret"
MADE_BY_PACKAGES = "packages create such files"


@dataclass(frozen=True)
class Left:
    """What is left out, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Selection:
    """The changes to include if their files turn out to be short texts, and the others."""

    wanted: tuple[Change, ...]
    left: tuple[Left, ...]


def select(
    changes: Sequence[Change], changed_packages: Collection[str], carried: Collection[str], scripts: str = ""
) -> Selection:
    """Choose among changes. `changed_packages` have other versions than the host's, and bring their files; `scripts`
    is the text of their scripts; `carried` are files that the manifest already includes in another way.
    """
    wanted: list[Change] = []
    left: list[Left] = []
    new = {change.path for change in changes if change.kind == "added" and change.type == "directory"}
    for top, group in _groups(changes, carried).items():
        found = [_judged(change, changed_packages) for change in group]
        for number, change in enumerate(group):
            if found[number] is None and not change.package and _names(scripts, change.path, new):
                found[number] = MADE_BY_PACKAGES
        chosen = [change for change, why in zip(group, found, strict=True) if why is None]
        if len(chosen) > _TREE_LIMIT:
            size = sum(change.new.size for change in chosen if change.new)
            left.append(Left(f"{top}/", f"{len(chosen)} files, {size} bytes"))
        else:
            wanted += chosen
        left += _reasons(zip(group, found, strict=True))
    return Selection(tuple(wanted), tuple(sorted(set(left), key=lambda row: (row.what, row.why))))


def _names(scripts: str, path: str, new: Collection[str]) -> bool:
    """Whether scripts name a file, or a new directory above it."""
    candidates = (path, *(directory for directory in ancestors(path) if directory in new))
    return any(re.search(rf"{re.escape(candidate)}(?![\w.-])", scripts) for candidate in candidates)


def _groups(changes: Sequence[Change], carried: Collection[str]) -> dict[str, list[Change]]:
    """Grouped by their outermost new directory, or each alone."""
    new = {c.path for c in changes if c.kind == "added" and c.type == "directory"}
    filled = {parent for c in changes for parent in ancestors(c.path)}
    groups: dict[str, list[Change]] = {}
    for change in changes:
        if change.fold or change.path in carried or (change.type == "directory" and change.path in filled & new):
            continue
        above = [path for path in ancestors(change.path) if path in new]
        groups.setdefault(above[-1] if above else change.path, []).append(change)
    return groups


def _judged(change: Change, changed_packages: Collection[str]) -> str | None:
    """Why a change is left out; None if it is not; "" if it comes with its package."""
    there = change.new is not None and change.type in ("file", "symlink") and change.kind != "metadata"
    if change.package in changed_packages:
        # A configuration file that was edited shows only by its content (freeze.py).
        return None if there and change.path.startswith("/etc/") and change.type == "file" else ""
    if change.package:
        edited = there and change.path.startswith("/etc/")
        return None if edited else f"{change.kind}, of the package {change.package}"
    if _BY_PACKAGES.fullmatch(change.path):
        return MADE_BY_PACKAGES
    if not _BY_HAND.fullmatch(change.path):
        return "data, or made by a package"
    if not there:
        return change.kind if change.new is None or change.kind == "metadata" else f"a {change.type}"
    return None


def _reasons(judged: Iterable[tuple[Change, str | None]]) -> Iterator[Left]:
    for change, why in judged:
        if why:
            data = why.startswith("data")
            yield Left(_shortened(change.path) if data else change.path, why)


def _shortened(path: str) -> str:
    """The beginning of a path that shows what the data belongs to: /var/lib/postgresql/."""
    parts = path.split("/")
    return path if len(parts) <= 4 else f"{'/'.join(parts[:4])}/"


def unfit(path: str, content: bytes, mode: int, size: int) -> str:
    """Why a file cannot be written into a manifest; "" if it can. The beginning of a long one is enough."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not text"
    if not mode & 0o004:
        return MAYBE_SECRET
    if size > (TEXT_LIMIT if is_text(content) else BINARY_LIMIT):
        return f'{size} bytes; keep it beside the manifest: {{ source = "files/..." }}'
    return ""
