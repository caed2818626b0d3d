"""Reads what is installed, and files, on the host and in an environment; changes nothing. installed.py has the result.

A process in a namespace of the environment's id map reads its side. Owners on the host's side are visible only
outside. What is read here may be published: so links are followed as they lead inside, but only to system files.
What an environment shows of the host unchanged, above all homes, does not belong to these.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sysenv_ns.diff import changes, comparison
from sysenv_ns.drivers import driver
from sysenv_ns.environment import config
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files import reader, upper, view
from sysenv_ns.files.upper import Own, Upper
from sysenv_ns.files.view import View
from sysenv_ns.host import layout
from sysenv_ns.host import release as host_release
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.kernel.mountinfo import ancestors
from sysenv_ns.manifest import plans
from sysenv_ns.manifest.document import FILE_LIMIT, SOURCES, SOURCES_LIST, AddedFile, digest
from sysenv_ns.manifest.installed import DATABASES, InstalledState, Look, Side
from sysenv_ns.manifest.plans import Record
from sysenv_ns.packages import origin
from sysenv_ns.packages.old import Old

RECORD = "/var/lib/sysenv-ns/manifest.json"  # what an environment was last made to match; in it, so that it goes along
_KEYS = ("/etc/apt/keyrings", "/etc/apt/trusted.gpg.d")
_SIGNED_BY = re.compile(rb"(?im)^Signed-By:[ \t]*(/[^\s,]+)|[\[ ]signed-by=(/[^\s,\]]+)")
_PROCESS = "sysenv-ns-read"


def release() -> str:
    """The release of this system, in the form of a manifest; "" where it does not tell."""
    fields = host_release.fields()
    return host_release.codename(fields) if fields else ""


def of_host(single: bool) -> InstalledState:
    """The file of a new environment."""
    host = _host()
    return InstalledState(host, host, single=single)


def host_file(path: str, id_map: IdMap | None) -> tuple[AddedFile, tuple[int, int]] | None:
    """A regular file or link of the host with the numbers of its owner inside; None if there is none."""
    try:
        status = os.lstat(path)
        owner = (id_map.uid_inside(status.st_uid), id_map.gid_inside(status.st_gid)) if id_map else None
        numbers = owner or (status.st_uid, status.st_gid)
        facts = changes.facts_of(status)
        if facts.type == "symlink":
            return AddedFile(link=os.readlink(path)), numbers
        content = origin.content(path) if facts.type == "file" else None
    except OSError:
        return None
    return None if content is None else (AddedFile(content, mode=facts.mode), numbers)


def record_of(environment: Environment) -> Record | None:
    """What an environment was last synced from, whether it runs or not; None if no readable file tells."""
    return plans.decode(origin.own_content(environment, RECORD))


def read(store: Store, environment: Environment, paths: Iterable[str] = (), keys: Iterable[str] = ()) -> InstalledState:
    """Both sides, and the files at these paths and of keys. The lock must be held. Raises SysenvError."""
    layers, marks = environment.changes(), driver.of(environment).marks
    host = _host()
    wanted, wanted_keys = list(paths), [*keys, *host.keys]
    try:
        bound = config.host(store, environment).shown

        def inside() -> _EnvironmentSide:
            return _look(_InsideFiles(Upper(layers, marks), bound), wanted, wanted_keys)

        found = namespace.look_inside(environment.id_map, inside, _EnvironmentSide, _PROCESS)
    except OSError as error:
        raise SysenvError(f"{environment.name} cannot be read: {located(error)}") from error
    # What the process inside may not read of the host has a stand-in, or is empty.
    known = found.side.databases
    own = replace(found.side, databases={path: known.get(path, host.databases.get(path, b"")) for path in DATABASES})
    keys_there = _present({*host.keys, *own.keys, *wanted_keys})
    host = replace(host, databases={**host.databases, **_began_with(store, environment)}, keys=keys_there)
    files = _of_host(found.below, environment.id_map)
    return InstalledState(host, own, {**found.files, **files}, environment.root_only)


def _host() -> Side:
    databases = {path: origin.content(path) or b"" for path in DATABASES}
    root = View("/")
    sources = _present(_source_paths(root.names(SOURCES)))
    found = (f"{directory}/{name}" for directory in _KEYS for name in root.names(directory))
    keys = [*_signed_by(sources.values()), *found]
    return Side(databases, sources, _present(keys))


def _began_with(store: Store, environment: Environment) -> dict[str, bytes]:
    """The original contents of databases that an environment has changed. Raises SysenvError.

    The others are today's host's, or will be at the next start; for an environment of an earlier version it is unknown.
    """
    known = origin.read(environment.path)
    if known is None:
        return {}
    old = Old.of(store, known)
    own = (path for path in DATABASES if origin.own(environment, path) is not None)
    try:
        return {path: data for path in own if (data := old.read(path)) is not None}
    except OSError as error:
        raise SysenvError(f"what {environment.name} was made from cannot be read: {located(error)}") from error


def _present(paths: Iterable[str]) -> dict[str, bytes]:
    return {path: data for path in sorted(paths) if (data := origin.content(path)) is not None}


def _source_paths(names: Iterable[str]) -> list[str]:
    found = sorted(f"{SOURCES}/{name}" for name in names if name.endswith((".list", ".sources")))
    return [SOURCES_LIST, *found]


def _signed_by(sources: Iterable[bytes]) -> list[str]:
    found = (match[1] or match[2] for content in sources for match in _SIGNED_BY.finditer(content))
    return sorted({os.fsdecode(path) for path in found})


class _InsideFiles:
    """The files of an environment, for the process that reads them; `bound` are paths that are the host's own."""

    def __init__(self, upper: Upper, bound: Sequence[str]) -> None:
        self.upper, self._bound = upper, bound
        self.root = View("/")
        self._own = Own(upper, self.root)

    def real(self, path: str) -> str:
        """The path with symbolic links resolved, except the last part."""
        return comparison.real(path, self._own)

    def names(self, directory: str) -> list[str]:
        """The paths of files in a directory of apt."""
        return sorted({*self.root.names(directory), *self.upper.below(self.root.real(directory))})

    def content(self, path: str) -> bytes | None:
        """The content of the file at a path, or of a link's target; None if it is not a file of the system."""
        found = self._followed(path)
        try:
            return None if found is None else self._own.read(found)
        except PermissionError:  # the host's, and not for this user
            return None

    def is_private(self, path: str) -> bool:
        """Whether that file, or the target of the link, is not world-readable."""
        found = self._followed(path) or path
        above = [self._own.status(directory) for directory in ancestors(found)] if found != path else []
        status = self._own.status(found)
        closed = any(directory is None or not directory.st_mode & stat.S_IXOTH for directory in above)
        return status is None or not status.st_mode & stat.S_IROTH or closed

    def is_of_system(self, path: str) -> bool:
        """Whether a real path belongs to the environment, and to no home."""
        return layout.is_of_environment(path, self._bound)

    def _followed(self, path: str) -> str | None:
        for _ in range(view.LINKS):
            if not self.is_of_system(path):
                return None
            target = self._own.link(path)
            if target is None:
                return path
            path = self.real(os.path.join(os.path.dirname(path), target))
        return None


@dataclass(frozen=True)
class _EnvironmentSide:
    """The view from inside: the environment's side and files, and the real paths of files that are the host's."""

    side: Side
    files: Mapping[str, Look]
    below: Mapping[str, str]


def _look(inside: _InsideFiles, paths: Sequence[str], keys: Sequence[str]) -> _EnvironmentSide:
    """In the child."""

    def read_all(paths: Iterable[str]) -> dict[str, bytes]:
        return {path: data for path in paths if (data := inside.content(path)) is not None}

    sources = read_all(_source_paths(inside.names(SOURCES)))
    signing = _signed_by(sources.values())
    found = read_all(
        {*keys, *signing, *(f"{directory}/{name}" for directory in _KEYS for name in inside.names(directory))}
    )
    files, below = {}, {}
    for path in paths:
        real = inside.real(path)
        entry = inside.upper.get(real)
        if entry is not None and entry.kind != "whiteout":
            files[path] = _looked_at(entry)
        elif entry is None and not inside.upper.covers(real) and inside.is_of_system(real):
            below[path] = real
    private = frozenset(path for path in (*sources, *found) if inside.is_private(path))
    return _EnvironmentSide(Side(read_all(DATABASES), sources, found, private), files, below)


def _looked_at(entry: upper.UpperEntry) -> Look:
    facts = changes.facts_of(entry.status)
    content = _digest(entry) if facts.type == "file" else ""
    link = entry.link() if facts.type == "symlink" else ""
    return Look(facts.type, content, link, facts.mode, facts.uid, facts.gid)


def _digest(entry: upper.UpperEntry) -> str:
    """The digest of a file, if a manifest can have put it there."""
    found, size = hashlib.sha256(), 0
    with entry.stream() as stream:
        while (data := stream.read(reader.CHUNK)) and size <= FILE_LIMIT:
            found.update(data)
            size += len(data)
    return found.hexdigest() if size <= FILE_LIMIT else ""


def _of_host(paths: Mapping[str, str], id_map: IdMap | None) -> dict[str, Look]:
    found = {}
    for path, real in paths.items():
        if file := host_file(real, id_map):
            content, numbers = file
            kind = "file" if content.link is None else "symlink"
            mode = content.mode if content.link is None else 0o777
            found[path] = Look(kind, digest(content.content), content.link or "", mode, *numbers)
        elif os.path.isdir(real):
            found[path] = Look("directory")
    return found
