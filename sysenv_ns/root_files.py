"""What root of an environment leaves in the home of who called it: which directories are looked through for it.

Files that a command of root has created in the user's directories are given to the user when it ends. For this a
process waits for the command, which otherwise is the process that was started. It does so if the session begins in a
directory below the home, or its command names one: only these are searched. For the home itself, which may be
large, and for files that daemons leave later, there is `reclaim`.

Rejected alternatives. Running as the user by default in the home: what `make install`, pip or a
script put into the system would not get there, or into the home instead. Mounts with other ids, and fanotify marks
on a file system: only for real root. Searching all of the home: seconds for a large one, minutes where nothing of
it is cached. Looking at the entries of the home alone, by the supervisor when the session has ended: what a container
of the user's (a volume of podman's in the home) was given by its subordinate ids meanwhile looks just like what the
session has left. Tracing the command to stop it at its end: then the command could not be a debugger.
"""

from __future__ import annotations

import os
import time

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.environment.description import Environment
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import handover
from sysenv_ns.files.handover import Area, Heir
from sysenv_ns.kernel import idmap, namespace
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sysenv_ns.sudo import Caller

_ARGUMENTS = 1000  # that are looked at
_BETWEEN = dict.fromkeys(map(ord, "=;|&<>()'\"`$"), " ")  # words of a script, and an option and its value
_CLOCK = 5  # CLOCK_REALTIME_COARSE (clock_gettime(2)): that of file systems' times


@dataclass(frozen=True)
class Begun:
    """How a session begins: the home of its user, its directory, and its command."""

    home: str
    directory: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class RootSession:
    """A session of root, the user who gets its files, and the directories that are skipped."""

    heir: Heir
    session: Begun
    stores: tuple[str, ...]

    def hand_over(self) -> None:
        """Give the user the new files. Imports nothing: it is called inside."""
        for area in self.areas():
            handover.hand_over(area, self.heir)

    def areas(self) -> Iterator[Area]:
        """The directories to search, none below another one."""
        places = sorted({found for path in self._named() if (found := self._in_home(path)) is not None})
        last = None
        for place in places:
            if last is None or not is_below(place, last):
                last = place
                yield Area(place, tuple(identities(self.stores)))

    def _named(self) -> Iterator[str]:
        if self.session.directory:  # it may have been removed
            yield self.session.directory
        for argument in self.session.arguments[:_ARGUMENTS]:
            # A script names paths between other words; as a whole it would be taken for one below the home.
            for word in filter(None, (argument, *_words(argument))):
                path = os.path.normpath(os.path.join(self.session.directory or "/", word))
                if os.path.isdir(path):
                    yield path
                elif "/" in word and _words(word) == [word]:
                    yield os.path.dirname(path)

    def _in_home(self, path: str) -> str | None:
        path, home = os.path.realpath(path), self.session.home
        while is_below(os.path.dirname(path), home) and self._is_left(os.path.dirname(path)):
            path = os.path.dirname(path)
        return path if is_below(path, home) else None

    def _is_left(self, path: str) -> bool:
        """Whether the session has created a directory, as `mkdir -p` does."""
        try:
            return self.heir.gets(os.lstat(path))
        except OSError:
            return True  # there was none when the session began


def _words(text: str) -> list[str]:
    return text.translate(_BETWEEN).split()


def of_session(environment: Environment, caller: Caller | None, session: Begun) -> RootSession | None:
    """What has to be searched after a session of root; None if root is the user, or no directory is in the home."""
    if environment.id_map is not None:
        uid, gid = environment.id_map.own_uid, environment.id_map.own_gid
    elif caller is not None:
        uid, gid = caller.uid, caller.gid
    else:
        return None
    home = os.path.realpath(session.home) if session.home.startswith("/") else "/"
    if uid == 0 or home == "/":
        return None
    since = float(int(time.clock_gettime(_CLOCK)))  # some file systems have seconds only
    heir = Heir(uid, gid, since, only_root=environment.by_root)
    work = RootSession(heir, replace(session, home=home), stores_of(home, environment.store))
    return work if any(work.areas()) else None


def reclaim(store: Path, places: Sequence[str]) -> int:
    """Give the user all files below these places that belong to subordinate ids; returns their number.

    Raises SysenvError, also if real root has left some: only root may change these.
    """
    for place in places:
        if not os.path.isdir(place):
            raise SysenvError(f"{place} is not a directory", "give directories of yours")
    if os.geteuid() == 0:
        raise SysenvError(
            "files that root creates belong to root anyway: there is nothing to reclaim", "run it as yourself"
        )
    passed = tuple(identities(stores_of(os.path.expanduser("~"), store)))
    areas = [Area(os.path.realpath(place), passed) for place in places]
    count = _reclaim(areas)
    if of_root := sum(handover.owned(area, 0) for area in areas):
        import shlex  # not on the path of exec

        failure = f"{of_root} of the files belong to the host's root, who alone may give them away"
        chown = f"sudo chown -hR --from=root {os.getuid()}:{os.getgid()} {' '.join(map(shlex.quote, places))}"
        raise SysenvError(failure, f"let root do it: {chown}")
    return count


def _reclaim(areas: Sequence[Area]) -> int:
    try:
        id_map = idmap.detect_full()
    except SysenvError:  # then nobody but root and the user has made anything
        return 0
    heir = Heir(id_map.own_uid, id_map.own_gid)

    def inside() -> int:
        return sum(handover.hand_over(area, heir) for area in areas)

    return namespace.call_inside(id_map, inside, int, "sysenv-ns-own")


def stores_of(home: str, store: Path) -> tuple[str, ...]:
    """Directories in a home in which files belong to other ids on purpose."""
    return (str(store), *(f"{home}/{path}" for path in policy.STORES_IN_HOME))


def identities(paths: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Device and inode of those that exist."""
    for path in paths:
        if os.path.isdir(path):
            status = os.stat(path)
            yield status.st_dev, status.st_ino
