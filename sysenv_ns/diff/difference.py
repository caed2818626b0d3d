"""diff: finds what an environment changed against the host, whether it runs or not; prints nothing and changes nothing.

A process in a namespace of the environment's id map looks at both sides (comparing.py). Who owns a file of the host can
be seen outside only: so that is added here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sysenv_ns import policy, sudo
from sysenv_ns.diff import changes, comparing, owning
from sysenv_ns.diff.changes import Change, Facts, PackageChange
from sysenv_ns.diff.comparing import Found, Host
from sysenv_ns.diff.patch import Contents
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.host import config, layout, standins
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.packages import dpkg, origin
from sysenv_ns.packages.databases import Old
from sysenv_ns.store import Environment, Store
from sysenv_ns.upper import ephemeral, uppers, view
from sysenv_ns.upper.view import Own, Upper, View

TEXT_LIMIT = 64 << 20  # bytes of a file that is compared as text
_OTHER_DATABASES = tuple(path for path in policy.PACKAGE_DATABASES if path != dpkg.STATUS)
_PROCESS = "sysenv-ns-diff"


@dataclass(frozen=True)
class Difference:
    """All that an environment changed, by path."""

    name: str
    packages: tuple[PackageChange, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()  # what the user should know


@dataclass(frozen=True)
class Sides:
    """What is compared. Only processes in the environment's namespace can read its upper directories."""

    environment: Environment
    layers: tuple[tuple[str, str], ...]  # mount points and the upper directories over them, the uppermost first
    host: Host

    def upper(self) -> Upper:
        """The environment's side."""
        return Upper(self.layers, view.signs(self.environment.driver))

    @property
    def points(self) -> dict[str, None]:
        """The mount points of its overlays, "" for /."""
        return dict.fromkeys(point for point, _ in self.layers)


def find(store: Store, name: str, paths: Sequence[str] = ()) -> Difference:
    """What an environment changed; `paths`: there and below alone. Raises SysenvError."""
    environment = store.load(name)
    ephemeral.refuse_in_memory(environment, "the changes")
    sudo.require(environment)
    with store.lock(name):  # nothing of its directories is exchanged or removed meanwhile
        return _find(store, store.load(name), paths)


def _find(store: Store, environment: Environment, paths: Sequence[str]) -> Difference:
    sides = sides_of(store, environment)
    status = origin.content(dpkg.STATUS)
    old = _old_packages(store, environment)
    try:
        data = namespace.look_inside(environment.id_map, lambda: _look(sides, status, old, paths), _PROCESS)
    except OSError as error:
        raise _unreadable(environment, error) from error
    assert isinstance(data, dict)
    owners: Mapping[str, str] = data["owners"]
    found = (_change(_found(row), environment.id_map) for row in data["found"])
    changed = (replace(c, package=owners.get(c.path, ""), fold=changes.fold(c.path)) for c in found if c)
    packages = tuple(PackageChange(*row) for row in data["packages"])
    ordered = tuple(sorted(changed, key=lambda change: os.fsencode(change.path)))
    return Difference(environment.name, packages, ordered, tuple(_notes(environment, data)))


def contents(store: Store, difference: Difference) -> list[Contents]:
    """What is to be compared as text, for each change. Raises SysenvError."""
    if not difference.changes:
        return []
    with store.lock(difference.name):
        environment = store.load(difference.name)
        sides = sides_of(store, environment)
        try:
            rows = namespace.look_inside(environment.id_map, lambda: _read_all(sides, difference.changes), _PROCESS)
        except OSError as error:
            raise _unreadable(environment, error) from error
    assert isinstance(rows, list)
    return [Contents(change, *row) for change, row in zip(difference.changes, rows, strict=True)]


def _unreadable(environment: Environment, error: OSError) -> SysenvError:
    return SysenvError(f"the changes of {environment.name} cannot be read: {located(error)}")


def sides_of(store: Store, environment: Environment) -> Sides:
    """What is compared for an environment. Raises SysenvError."""
    surveyed = config.host(store, environment)
    mirrored = environment.id_map is not None
    further = [] if mirrored else [mount.point for mount in layout.further_mounts(surveyed)]
    layers = tuple(uppers.layers(environment, ["", *further]))
    bound = layout.hosts_own(surveyed)
    kind = environment.id_map.kind if environment.id_map else None
    added = standins.host_additions(kind == "single", bound) if mirrored else standins.root_additions(bound)
    # Mount points and what is mounted over are nobody's changes; /run is made for each session.
    shadowed = (*layout.bound_paths(surveyed), *(f"/{name}" for name in policy.PRIVATE))
    return Sides(environment, layers, Host((*added, standins.prompt(environment.name)), mirrored, shadowed))


def _old_packages(store: Store, environment: Environment) -> bytes | None:
    """The status file of the host from which the environment comes; None when nobody knows or it is today's."""
    known = origin.read(environment.path)
    return Old(*[origin.path_of(store, known.packages)] * 2).read(dpkg.STATUS) if known else None


def _look(sides: Sides, status: bytes | None, old: bytes | None, paths: Sequence[str]) -> dict[str, Any]:
    """In the child: everything that can be seen there, as JSON takes it."""
    upper = sides.upper()
    own = Own(upper, View("/"))
    wanted = [_resolve(path, upper, own, sides.environment.name) for path in paths]
    found = [row for row in comparing.compare(upper, sides.host, sides.points) if _is_wanted(row.path, wanted)]
    there, here = owning.of_host(status), owning.of_environment(upper, own)
    packages: tuple[PackageChange, ...] = ()
    drifted = 0
    if here is not None and not paths:
        olds = there.packages if old is None else dpkg.parse_status(old)
        packages, drifted = changes.packages(olds, there.packages, here.packages)
    owners = owning.owners((row.path for row in found), [here, there] if here else [there], owning.links())
    names = [[package.name, package.kind, package.old, package.new] for package in packages]
    others = [path for path in _OTHER_DATABASES if upper.get(path) is not None]
    shown = [path for path, place in zip(paths, wanted, strict=True) if sides.host.covers(place)]
    return {
        **{"found": found, "owners": owners, "packages": names},
        **{"drifted": drifted, "others": others, "shown": shown},
    }


def _resolve(path: str, upper: Upper, own: Own, name: str) -> str:
    place = comparing.real(path, own)
    if not comparing.exists(place, upper, own) and not os.path.lexists(place):
        raise SysenvError(f"there is no {path}, neither in {name} nor on this system", "give a path as seen inside")
    return place


def _is_wanted(path: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(place in (path, "/") or path.startswith(f"{place}/") for place in wanted)


def _found(row: list[Any]) -> Found:
    path, old, new, *rest = row
    return Found(path, Facts(*old) if old else None, Facts(*new) if new else None, *rest)


def _change(found: Found, id_map: IdMap | None) -> Change | None:
    old = found.old
    if old is not None and found.of_host:
        try:
            status = os.lstat(found.path)
        except OSError:  # gone meanwhile: then nothing can be said of its owner
            old = old._replace(uid=found.new.uid, gid=found.new.gid) if found.new else old
        else:
            uid, gid = status.st_uid, status.st_gid
            old = old._replace(
                uid=id_map.uid_inside(uid) if id_map else uid, gid=id_map.gid_inside(gid) if id_map else gid
            )
    return changes.compare(found.path, old, found.new, found.same_content, found.same_attributes)


def _notes(environment: Environment, data: Mapping[str, Any]) -> Iterator[str]:
    if data["drifted"]:
        yield (
            f"{data['drifted']} packages of this system have changed since {environment.name} has its own; "
            f"carry it over with: sysenv-ns rebase {environment.name}"
        )
    for path in data["shown"]:
        yield f"{path} in {environment.name} is this system's own, as it is outside"
    for path in data["others"]:
        yield f"{path} is changed; its packages cannot be told apart, their files are listed"


def _read_all(sides: Sides, wanted: Sequence[Change]) -> list[list[str | bool | None]]:
    upper = sides.upper()
    return [_read(change, upper, sides.host) for change in wanted]


def _read(change: Change, upper: Upper, host: Host) -> list[str | bool | None]:
    """The text on both sides, and whether there is something that is none."""
    entry, seen = upper.get(change.path), host.look(change.path) if change.old else None
    old = new = None
    if change.old and seen:
        shown = seen.content
        old = shown if shown is not None else comparing.content(seen.place, change.old, TEXT_LIMIT)
    if change.new and entry is not None:
        new = comparing.content(entry.place, change.new, TEXT_LIMIT)
    holds = [facts for facts in (change.old, change.new) if facts is not None and facts.type in ("file", "symlink")]
    both = [data for data in (old, new) if data is not None]
    if len(both) < len(holds) or any(_is_binary(data) for data in both):
        return [None, None, True]
    return [None if data is None else data.decode("utf-8", "surrogateescape") for data in (old, new)] + [False]


def _is_binary(data: bytes) -> bool:
    return b"\0" in data[:8000]  # as git finds out
