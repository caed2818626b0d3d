"""Finds how far the host has moved away from an environment with package databases of its own; changes neither."""

from __future__ import annotations

import errno

from sysenv_ns import TYPE_CHECKING, documents, policy
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.host import signs
from sysenv_ns.packages import origin
from sysenv_ns.packages.old import Old
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeVar

    _T = TypeVar("_T")


@dataclass(frozen=True)
class PackageDrift:
    """A package of the host with its versions then and now ("" for none)."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Drift:
    """What a rebase would be about."""

    known: bool = True  # False: an earlier version made the environment, and nobody knows what the host was
    changed: tuple[PackageDrift, ...] = ()  # packages of the host, since the environment has its own database
    held: tuple[str, ...] = ()  # those of them that the environment has in a version of its own, or removed
    files: tuple[str, ...] = ()  # configuration and account files that both sides have changed
    unmerged: tuple[str, ...] = ()  # databases of other package managers that both sides have changed

    @property
    def is_there(self) -> bool:
        """Whether there is a reason for a rebase."""
        return bool(self.changed or self.unmerged)


def measure(store: Store, environment: Environment) -> Drift:
    """Compare an environment's origin with the host of now. What cannot be read counts as unknown."""
    known = origin.read(environment.path)
    if known is None:
        return Drift(known=not origin.has_databases(environment))
    if origin.is_current(known.packages) and origin.is_current(known.accounts):
        return Drift()
    old = Old.of(store, known)
    try:
        files, unmerged = _files(old, environment), _unmerged(old, environment)
        if not origin.has_packages(environment):
            return Drift(files=files, unmerged=unmerged)
        before = old.read(origin.STATUS) or b""
        changed = dict(_changed(before, origin.content(origin.STATUS) or b""))
        own = dict(_changed(before, _own(environment, origin.STATUS) or b""))
    except OSError:
        return Drift(known=False)
    return Drift(
        changed=tuple(PackageDrift(key, *versions) for key, versions in changed.items()),
        held=tuple(key for key in changed if key in own),
        files=files,
        unmerged=unmerged,
    )


def glance(store: Store, environment: Environment) -> Drift:
    """The same as far as it takes to know whether there is a reason for a rebase: one package at most, and no files."""
    known = origin.read(environment.path)
    if known is None or origin.is_current(known.packages):
        return Drift()
    old = Old.of(store, known)
    try:
        if (unmerged := _unmerged(old, environment)) or not origin.has_packages(environment):
            return Drift(unmerged=unmerged)
        before, now = old.read(origin.STATUS) or b"", origin.content(origin.STATUS) or b""
        if (found := _upgraded(before, now)) is not None:
            return Drift(changed=(found,))
        return Drift(changed=tuple(PackageDrift(key, *versions) for key, versions in _first(_changed(before, now))))
    except OSError:
        return Drift(known=False)


def unmerged(store: Store, environment: Environment) -> tuple[str, ...]:
    """The databases of other package managers that both sides have changed. Raises OSError."""
    known = origin.read(environment.path)
    return () if known is None else _unmerged(Old.of(store, known), environment)


def notice(store: Store, environment: Environment) -> str | None:
    """One line for somebody who enters a drifted environment; only once for each state of the host."""
    drift = measure(store, environment)
    if not origin.note_seen(environment) or not drift.is_there:
        return None
    name = environment.name
    what = f"{len(drift.changed)} packages of this system" if drift.changed else "packages of this system"
    return f"{what} have changed since {name} got its own; to catch up: sysenv-ns rebase {name}"


def _upgraded(before: bytes, now: bytes) -> PackageDrift | None:
    """A package that both of two status files have installed, in different versions, if there is a plain one.

    Found without dpkg.py, whose import takes longer than all else that `list` does.
    """
    olds, news = {*before.split(b"\n\n")}, {*now.split(b"\n\n")}
    known = {found[0]: found[1] for piece in olds - news if (found := _installed(piece))}
    for piece in news - olds:
        if (found := _installed(piece)) and known.get(found[0], found[1]) != found[1]:
            name, old, new = (
                text.decode("utf-8", "surrogateescape") for text in (found[0][0], known[found[0]], found[1])
            )
            return PackageDrift(name, old, new)
    return None


def _installed(paragraph: bytes) -> tuple[tuple[bytes, bytes], bytes] | None:
    """The name and architecture, and the version, of an installed package; None for what is not plainly one."""
    fields: dict[bytes, bytes] = {}
    for line in paragraph.strip(b"\n").split(b"\n"):
        name, colon, value = line.partition(b":")
        if not colon or name.lower() in fields:
            if line[:1] not in (b" ", b"\t") or not line.strip():
                return None
        elif line[:1] not in (b" ", b"\t"):
            fields[name.lower()] = value.strip()
    if fields.get(b"status") != b"install ok installed" or not {b"package", b"version"} <= fields.keys():
        return None
    return (fields[b"package"], fields.get(b"architecture", b"")), fields[b"version"]


def _changed(before: bytes, now: bytes) -> Iterator[tuple[str, tuple[str, str]]]:
    """The packages of two status files that have different versions, with both of them."""
    if before == now:
        return
    from sysenv_ns.packages import dpkg  # not on the path of `list`, unless an environment has drifted

    olds, news = dpkg.parse_differing(before, now)
    for key in {**news, **olds}:
        both = dpkg.version_of(olds.get(key)), dpkg.version_of(news.get(key))
        if both[0] != both[1]:
            yield key, both


def _first(found: Iterator[_T]) -> tuple[_T, ...]:
    return next(zip(found, strict=False), ())


def _own(environment: Environment, path: str) -> bytes | None:
    """A database as the environment has it."""
    return origin.own_content(environment, path) if origin.owned(environment, [path]) else origin.content(path)


def _files(old: Old, environment: Environment) -> tuple[str, ...]:
    from sysenv_ns.packages import dpkg

    paths = {*origin.ACCOUNTS, *dpkg.conffiles(old.read(origin.STATUS) or b"")}
    own = origin.owned(environment, sorted(paths))
    return tuple(path for path in own if old.read(path) != origin.content(path))


def _unmerged(old: Old, environment: Environment) -> tuple[str, ...]:
    signatures = _signatures(old)
    others = [path for path in policy.PACKAGE_DATABASES if path != origin.STATUS]
    own = origin.owned(environment, others)
    return tuple(path for path in own if path in signatures and signatures[path] != signs.current(path))


def _signatures(old: Old) -> Mapping[str, object]:
    data = old.read(origin.SIGNATURES)
    try:
        found = documents.parse_json(data) if data else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise OSError(errno.EBADMSG, "it is damaged", f"{old.packages}{origin.SIGNATURES}")
    return found
