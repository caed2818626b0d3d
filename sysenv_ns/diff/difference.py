"""diff: finds what an environment changed, whether it runs or not; prints nothing and changes nothing.

A process in a namespace of the environment's id map reads both sides (comparison.py). Owners of host files are visible
only outside, so these are added here.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter

from sysenv_ns import policy
from sysenv_ns.diff import changes, comparison, owners
from sysenv_ns.diff.changes import Change, Facts, PackageChange
from sysenv_ns.diff.compared import ComparedGroup, Row
from sysenv_ns.diff.comparison import HostSide
from sysenv_ns.diff.patch import ContentPair
from sysenv_ns.drivers import driver
from sysenv_ns.environment import config, ephemeral
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files import upper
from sysenv_ns.files.upper import Listing, Own, Share, Upper
from sysenv_ns.files.view import View
from sysenv_ns.host import standins
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.mountinfo import ancestors
from sysenv_ns.packages import dpkg, origin
from sysenv_ns.packages.old import Old
from sysenv_ns.records import dataclass
from sysenv_ns.text import quoted

TEXT_LIMIT = 64 << 20  # bytes of a file that is compared as text
_DATABASES = (*policy.PACKAGE_DATABASES, dpkg.STATUS, dpkg.DIVERSIONS, f"{dpkg.INFO}/any")
_OTHER_DATABASES = tuple(path for path in policy.PACKAGE_DATABASES if path != dpkg.STATUS)
_PROCESS = "sysenv-ns-diff"
_PROCESSES = 2  # that look at changes: more would gain little, as each has to find the directories


@dataclass(frozen=True)
class Difference:
    """Everything that an environment changed, by path."""

    name: str
    packages: tuple[PackageChange, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()  # what the user should know


@dataclass(frozen=True)
class _SeenInside:
    """What can be seen from within the namespace."""

    found: tuple[ComparedGroup, ...]
    owners: Mapping[str, str]  # packages by path, as far as the environment's own lists tell
    packages: tuple[PackageChange, ...]
    drifted: int  # packages of the host that have changed since the environment got its own
    others: tuple[str, ...]  # databases of other package managers that it has changed
    shown: tuple[str, ...]  # asked for, but what is the host's own inside


@dataclass(frozen=True)
class Sides:
    """The two sides. Only processes in the environment's namespace can read its upper directories."""

    environment: Environment
    layers: tuple[tuple[str, str], ...]  # mount points and the upper directories over them, the uppermost first
    host: HostSide

    def upper(self, only: Collection[str] | None = None) -> Upper:
        """The environment's side; `only`: see Upper."""
        return Upper(self.layers, driver.of(self.environment).marks, only)

    def walk(self, share: Share) -> Iterator[Listing]:
        """The same, a directory after the other; `share`: see upper.walk."""
        return upper.walk(self.layers, driver.of(self.environment).marks, share=share)

    @property
    def points(self) -> dict[str, None]:
        """The mount points of its overlays, "" for /."""
        return dict.fromkeys(point for point, _ in self.layers)


def find(store: Store, name: str, paths: Sequence[str] = ()) -> Difference:
    """What an environment changed; `paths`: only there and below. Raises SysenvError."""
    environment = store.load(name)
    ephemeral.refuse_in_memory(environment, "the changes")
    environment.require_root()
    # Nothing of its directories is exchanged or removed meanwhile.
    with store.reading().lock(name), _no_collection():
        return _find(store, store.load(name), paths)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing is looked for that could be freed: that takes a tenth of the time, and 100,000s of tuples cannot."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _find(store: Store, environment: Environment, paths: Sequence[str]) -> Difference:
    sides = sides_of(store, environment)
    status = origin.content(dpkg.STATUS)
    old = _old_packages(store, environment)
    processes = min(len(os.sched_getaffinity(0)), _PROCESSES)
    shares = [Share(number, processes) for number in range(processes)]
    try:
        seen, there = namespace.look_inside_while(
            environment.id_map,
            [partial(_look, sides, status, old, paths, share) for share in shares],
            _SeenInside,
            _PROCESS,
            lambda: owners.of_host(status).read(),
        )
    except OSError as error:
        raise _unreadable(environment, error) from error
    known = {path: package for part in seen for path, package in part.owners.items()}
    rows = _ordered([group for part in seen for group in part.found])
    left = [row[0] for row in rows if row[0] not in known] if known else [row[0] for row in rows]
    packages = owners.owners(left, [there], owners.links()) | known
    found = tuple(_changes(rows, environment.id_map, packages))
    return Difference(environment.name, seen[0].packages, found, tuple(_notes(environment, seen[0])))


def contents(store: Store, difference: Difference) -> tuple[ContentPair, ...]:
    """The texts to compare, for each change. Raises SysenvError."""
    if not difference.changes:
        return ()
    with store.reading().lock(difference.name):
        environment = store.load(difference.name)
        sides = sides_of(store, environment)
        try:
            return namespace.look_inside(
                environment.id_map, lambda: _read_all(sides, difference.changes), tuple[ContentPair, ...], _PROCESS
            )
        except OSError as error:
            raise _unreadable(environment, error) from error


def _unreadable(environment: Environment, error: OSError) -> SysenvError:
    return SysenvError(f"the changes of {environment.name} cannot be read: {located(error)}")


def sides_of(store: Store, environment: Environment) -> Sides:
    """The sides to compare for an environment. Raises SysenvError."""
    surveyed = config.host(store, environment)
    own = driver.of(environment)
    layers = tuple(environment.changes(own.points(surveyed)))
    added = own.additions(environment.id_map, surveyed)
    # Mount points and what is mounted over are nobody's changes; /run is made for each session.
    shadowed = (*surveyed.bound_paths, *(f"/{name}" for name in policy.PRIVATE))
    return Sides(
        environment, layers, HostSide((*added, standins.prompt(environment.name)), not environment.by_root, shadowed)
    )


def _old_packages(store: Store, environment: Environment) -> bytes | None:
    """The status file of the host that the environment comes from; None if unknown or today's."""
    known = origin.read(environment.path)
    if known is None:
        return None
    return Old.of(store, known).read(dpkg.STATUS)


def _look(sides: Sides, status: bytes | None, old: bytes | None, paths: Sequence[str], share: Share) -> _SeenInside:
    """In a child: everything that is visible there, of the changes only a share."""
    below = View("/")
    databases = {directory for path in map(below.real, _DATABASES) for directory in ancestors(path)}
    upper = sides.upper(None if paths else databases)
    own = Own(upper, below)
    wanted = [_resolve(path, upper, own, sides.environment.name) for path in paths]
    compared = comparison.compare(sides.walk(share), sides.host, sides.points, share)
    found = compared.result((lambda path: _is_wanted(path, wanted)) if paths else None)
    here = owners.of_environment(upper, own)
    packages: tuple[PackageChange, ...] = ()
    drifted = 0
    owner: dict[str, str] = {}
    if here is not None:
        there = dpkg.parse_status(status or b"")
        if not paths:
            packages, drifted = changes.packages(there if old is None else dpkg.parse_status(old), there, here.packages)
        sources = [here, owners.Lists(there, {}, {})]
        owner = owners.owners((path for group in found for path in group.paths.split("\0")), sources, owners.links())
    others = tuple(path for path in _OTHER_DATABASES if upper.get(path) is not None)
    shown = tuple(path for path, place in zip(paths, wanted, strict=True) if sides.host.covers(place))
    return _SeenInside(found, owner, packages, drifted, others, shown)


def _resolve(path: str, upper: Upper, own: Own, name: str) -> str:
    place = comparison.real(path, own)
    if not comparison.exists(place, upper, own) and not os.path.lexists(place):
        raise SysenvError(f"there is no {path}, neither in {name} nor on this system", "give a path as seen inside")
    return place


def _is_wanted(path: str, wanted: Sequence[str]) -> bool:
    return any(place in (path, "/") or path.startswith(f"{place}/") for place in wanted)


def _ordered(groups: Sequence[ComparedGroup]) -> list[Row]:
    """By the bytes of the paths, which is the order of their characters, unless some bytes are none."""
    try:
        rows = [row for group in groups for row in group.rows()]
    except ValueError:
        raise SysenvError("unexpected answer from a helper process", "run it again") from None
    try:
        for group in groups:
            group.paths.encode()
    except UnicodeEncodeError:
        return sorted(rows, key=lambda row: os.fsencode(row[0]))
    return sorted(rows, key=itemgetter(0))


def _changes(rows: Iterable[Row], id_map: IdMap | None, packages: Mapping[str, str]) -> Iterator[Change]:
    make, fold = tuple.__new__, changes.fold
    for path, before, after, alike in rows:
        old, new = alike.old, alike.new
        if old is None and new is not None:  # in a few steps, as nearly all of 100,000s are new files
            kind, mode, uid, gid, _ = new
            facts = make(Facts, (kind, mode, uid, gid, after))
            yield make(Change, (path, "added", None, facts, (), packages.get(path, ""), fold(path)))
            continue
        if new is not None:
            new = Facts(new.type, new.mode, new.uid, new.gid, after)
        if old is not None:
            old = old._replace(size=before)
            if alike.of_host:
                old = _owned(old, new, path, id_map)
        package = packages.get(path, "")
        if change := changes.compare(path, old, new, alike.same_content, alike.same_attributes, package):
            yield change


def _owned(old: Facts, new: Facts | None, path: str, id_map: IdMap | None) -> Facts:
    """The facts of a host file, with its owner."""
    try:
        status = os.lstat(path)
    except OSError:  # gone meanwhile: then nothing can be said of its owner
        return old._replace(uid=new.uid, gid=new.gid) if new else old
    uid, gid = status.st_uid, status.st_gid
    return old._replace(uid=id_map.uid_inside(uid) if id_map else uid, gid=id_map.gid_inside(gid) if id_map else gid)


def _notes(environment: Environment, seen: _SeenInside) -> Iterator[str]:
    if seen.drifted:
        yield (
            f"{seen.drifted} packages of this system have changed since {environment.name} got its own; "
            f"to catch up: sysenv-ns rebase {environment.name}"
        )
    for path in seen.shown:
        yield f"{quoted(path)} in {environment.name} is this system's own, as it is outside"
    for path in seen.others:
        yield f"{quoted(path)} is changed; its packages cannot be told apart, their files are listed"


def _read_all(sides: Sides, wanted: Sequence[Change]) -> tuple[ContentPair, ...]:
    upper = sides.upper()
    return tuple(_read(change, upper, sides.host) for change in wanted)


def _read(change: Change, upper: Upper, host: HostSide) -> ContentPair:
    entry, seen = upper.get(change.path), host.look(change.path) if change.old else None
    old = new = None
    if seen and seen.facts.size <= TEXT_LIMIT:
        old = comparison.content_of_host(seen, TEXT_LIMIT)
    if change.new and entry is not None and entry.kind == "file" and entry.status.st_size <= TEXT_LIMIT:
        new = comparison.content(entry, TEXT_LIMIT)
    holds = [facts for facts in (change.old, change.new) if facts is not None and facts.type in ("file", "symlink")]
    both = [data for data in (old, new) if data is not None]
    if len(both) < len(holds) or any(_is_binary(data) for data in both):
        return ContentPair(change, None, None, binary=True)
    before, after = (None if data is None else data.decode("utf-8", "surrogateescape") for data in (old, new))
    return ContentPair(change, before, after, binary=False)


def _is_binary(data: bytes) -> bool:
    return b"\0" in data[:8000]  # as git finds out
