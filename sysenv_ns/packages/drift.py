"""Tells how far the host has moved away from an environment that has package databases of its own; changes neither."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass

from sysenv_ns import policy
from sysenv_ns.host import refresh
from sysenv_ns.packages import dpkg, origin
from sysenv_ns.packages.databases import Old
from sysenv_ns.store import Environment, Store


@dataclass(frozen=True)
class Change:
    """A package of the host with its versions then and now ("" for none)."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Drift:
    """What a rebase would be about."""

    known: bool = True  # False: an earlier version made the environment, and nobody knows what the host was
    changed: tuple[Change, ...] = ()  # packages of the host, since the environment has its own database
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
        olds, news = (dpkg.parse_status(side or b"") for side in (old.read(dpkg.STATUS), origin.content(dpkg.STATUS)))
        owns = dpkg.parse_status(_own(environment, dpkg.STATUS) or b"")
    except OSError:
        return Drift(known=False)
    changed = [key for key in {**news, **olds} if dpkg.version_of(olds.get(key)) != dpkg.version_of(news.get(key))]
    return Drift(
        changed=tuple(Change(key, dpkg.version_of(olds.get(key)), dpkg.version_of(news.get(key))) for key in changed),
        held=tuple(key for key in changed if dpkg.version_of(owns.get(key)) != dpkg.version_of(olds.get(key))),
        files=files,
        unmerged=unmerged,
    )


def unmerged(store: Store, environment: Environment) -> tuple[str, ...]:
    """The databases of other package managers that both sides have changed. Raises OSError."""
    known = origin.read(environment.path)
    return _unmerged(Old(*[origin.path_of(store, known.packages)] * 2), environment) if known else ()


def notice(store: Store, environment: Environment) -> str | None:
    """One line for somebody who enters a drifted environment; only once for each state of the host."""
    drift = measure(store, environment)
    if not origin.note_seen(environment) or not drift.is_there:
        return None
    name = environment.name
    what = f"{len(drift.changed)} packages of this system" if drift.changed else "packages of this system"
    return f"{what} have changed since {name} has its own; carry it over with: sysenv-ns rebase {name}"


def _is_own(environment: Environment, path: str) -> bool:
    return origin.own(environment, path) is not None


def _own(environment: Environment, path: str) -> bytes | None:
    """A database as the environment has it."""
    return origin.own_content(environment, path) if _is_own(environment, path) else origin.content(path)


def _files(old: Old, environment: Environment) -> tuple[str, ...]:
    olds = dpkg.parse_status(old.read(dpkg.STATUS) or b"")
    paths = [*origin.ACCOUNTS, *(path for package in olds.values() for path in package.conffiles)]
    changed = (path for path in paths if _is_own(environment, path))
    return tuple(sorted(path for path in changed if old.read(path) != origin.content(path)))


def _unmerged(old: Old, environment: Environment) -> tuple[str, ...]:
    signatures = _signatures(old)
    others = (path for path in policy.PACKAGE_DATABASES if path != dpkg.STATUS and _is_own(environment, path))
    return tuple(path for path in others if path in signatures and signatures[path] != refresh.current(path))


def _signatures(old: Old) -> Mapping[str, object]:
    data = old.read(origin.SIGNATURES)
    try:
        found = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise OSError(errno.EBADMSG, "it is damaged", f"{old.packages}{origin.SIGNATURES}")
    return found
