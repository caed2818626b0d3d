"""Finds how far the host has moved away from an environment with package databases of its own; changes neither."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass

from sysenv_ns import documents, policy
from sysenv_ns.environment.store import Environment, Store
from sysenv_ns.host import signs
from sysenv_ns.packages import dpkg, origin
from sysenv_ns.packages.databases import Old


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
    old = Old(origin.path_of(store, known.packages), origin.path_of(store, known.accounts))
    try:
        files, unmerged = _files(old, environment), _unmerged(old, environment)
        if not origin.has_packages(environment):
            return Drift(files=files, unmerged=unmerged)
        before = old.read(dpkg.STATUS) or b""
        changed = _changed(before, origin.content(dpkg.STATUS) or b"")
        own = _changed(before, _own(environment, dpkg.STATUS) or b"")
    except OSError:
        return Drift(known=False)
    return Drift(
        changed=tuple(PackageDrift(key, *versions) for key, versions in changed.items()),
        held=tuple(key for key in changed if key in own),
        files=files,
        unmerged=unmerged,
    )


def unmerged(store: Store, environment: Environment) -> tuple[str, ...]:
    """The databases of other package managers that both sides have changed. Raises OSError."""
    known = origin.read(environment.path)
    if known is None:
        return ()
    path = origin.path_of(store, known.packages)
    return _unmerged(Old(path, path), environment)


def notice(store: Store, environment: Environment) -> str | None:
    """One line for somebody who enters a drifted environment; only once for each state of the host."""
    drift = measure(store, environment)
    if not origin.note_seen(environment) or not drift.is_there:
        return None
    name = environment.name
    what = f"{len(drift.changed)} packages of this system" if drift.changed else "packages of this system"
    return f"{what} have changed since {name} got its own; to catch up: sysenv-ns rebase {name}"


def _changed(before: bytes, now: bytes) -> dict[str, tuple[str, str]]:
    """The packages of two status files that have different versions, with both of them."""
    olds, news = dpkg.parse_differing(before, now)
    versions = {key: (dpkg.version_of(olds.get(key)), dpkg.version_of(news.get(key))) for key in {**news, **olds}}
    return {key: both for key, both in versions.items() if both[0] != both[1]}


def _own(environment: Environment, path: str) -> bytes | None:
    """A database as the environment has it."""
    return origin.own_content(environment, path) if origin.owned(environment, [path]) else origin.content(path)


def _files(old: Old, environment: Environment) -> tuple[str, ...]:
    paths = {*origin.ACCOUNTS, *dpkg.conffiles(old.read(dpkg.STATUS) or b"")}
    own = origin.owned(environment, sorted(paths))
    return tuple(path for path in own if old.read(path) != origin.content(path))


def _unmerged(old: Old, environment: Environment) -> tuple[str, ...]:
    signatures = _signatures(old)
    others = [path for path in policy.PACKAGE_DATABASES if path != dpkg.STATUS]
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
