"""Finds the processes of an environment; starts, joins and ends none.

There is no daemon: an environment runs while a process lives in its mount namespace, and the state file is only a
hint where to look first.
"""

from __future__ import annotations

import os
import sys

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import contextmanager, suppress
from sysenv_ns.environment import ephemeral
from sysenv_ns.environment.description import SOURCE_PREFIX, Environment
from sysenv_ns.environment.state import State, read_state
from sysenv_ns.errors import OutOfReach, SysenvError
from sysenv_ns.kernel import children, mountinfo
from sysenv_ns.kernel.namespace import Kin, Mounts
from sysenv_ns.kernel.processes import Process, described, numbers, started_at
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass
from sysenv_ns.text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_FUSE, _OF_ROOT = "fuse.fuse-overlayfs", "user_id=0"


def find(environment: Environment, tell: Callable[[str], None] = lambda text: None) -> Mounts | None:
    """The mount namespace to join, which the caller closes; None when the environment does not run.

    Processes that are ending are waited for; `tell` is told if that takes long.

    Anybody can give a mount this environment's name, and the number of a namespace may be used again. So what is
    joined has to be ours by the user namespace that owns it, and have the environment's overlay besides.
    Raises SysenvError when only processes that cannot be joined are left.
    """
    state = read_state(environment.path)
    if state is not None and (mounts := _of_first(state, environment)):
        return mounts
    if ephemeral.was_never_started(environment):
        return None  # of the tasks that begin on a node, each would look at the mounts of all others
    with scan() as seen:
        if state is not None:
            for group in seen.groups:
                if group.mounts.identity == state.namespace and seen.is_session(group, environment, state):
                    return group.keep()
        held = seen.held(environment, state)
        if not held:
            if pids := seen.ending():
                from sysenv_ns.environment import ending

                ending.wait(pids, environment, state, tell)
            return None
        # The state file is lost, or only sandboxes live on: starting would mount the upper a second time.
        joinable = [group for group in held if state is None and seen.is_session(group, environment, state)]
        if joinable:
            # A namespace made later has copies of the mounts, with greater ids.
            return min(joinable, key=lambda group: _root_mount(group.pids[0], environment)).keep()
        left = described(pid for group in held for pid in group.pids)
    raise OutOfReach(
        f"{environment.name} cannot be entered: only a sandbox that was started inside still runs: {_listed(left)}",
        f"end it: sysenv-ns stop {environment.name}",
    )


def lives(environment: Environment) -> bool:
    """Whether the environment runs; processes that are ending are waited for. Raises SysenvError as `find` does."""
    mounts = find(environment)
    if mounts is not None:
        mounts.close()
    return mounts is not None


def _of_first(state: State, environment: Environment) -> Mounts | None:
    """The mount namespace of the process of the state file, if that still lives where it did."""
    if started_at(state.pid) != state.start_time:
        return None
    try:
        mounts = Mounts.of(state.pid)
    except OSError:
        return None
    # The process may have ended since its start time was looked at, and its number be somebody else's by now.
    if (
        mounts.identity == state.namespace
        and mounts.kin == _kin_of_sessions(environment)
        and environment.source in _sources(_mount_table(state.pid))
        and mounts.has(state.pid)
    ):
        return mounts
    mounts.close()
    return None


def _kin_of_sessions(environment: Environment) -> Kin:
    """Whose the mount namespace of a session is: that of the driver root has no user namespace of its own."""
    return "own" if environment.by_root else "child"


def _root_mount(pid: int, environment: Environment) -> int:
    """The mount id of the environment's root as this process sees it; a great one for a process that is gone."""
    lines = _mount_table(pid).decode(errors="replace").splitlines()
    ids = (int(line.split()[0]) for line in lines if environment.source in line.split())
    return min(ids, default=sys.maxsize)


class _Group:
    """Processes that share a mount namespace, which is held open."""

    def __init__(self, mounts: Mounts, pids: list[int]) -> None:
        self.mounts = mounts
        self.pids = pids
        self.kept = False
        self.found: frozenset[str] | None = None  # the environments whose overlay is in it, once looked for
        self.looked_inside = False

    def keep(self) -> Mounts:
        """The mount namespace, which the caller closes from now on."""
        self.kept = True
        return self.mounts

    def sources(self, thorough: bool) -> frozenset[str]:
        """The environments whose overlay is in it, as far as its processes show them."""
        if self.found is None:
            tables = [_mount_table(pid) for pid in self.pids]
            self.found = frozenset[str]().union(*map(_sources, tables))
            # A process sees the mounts below its own root only, and in a chroot (of a mail or name server) there may
            # be none.
            thorough |= not any(b" / / " in table for table in tables)
        if not self.found and thorough and not self.looked_inside and self.mounts.kin in ("own", "child"):
            self.looked_inside = True
            with suppress(OSError, SysenvError):  # not ours to enter
                self.found = children.call(self._sources_from_inside, frozenset[str], "sysenv-ns-look")
        return self.found

    def _sources_from_inside(self) -> frozenset[str]:
        # Opened before: what is mounted on /proc there may lie, or block.
        own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
        self.mounts.join()
        with open(os.open("mountinfo", os.O_RDONLY, dir_fd=own), "rb") as stream:
            return frozenset(_sources(stream.read()))


@dataclass(frozen=True)
class Scan:
    """The processes in other mount namespaces than ours at one moment: by these, those that have just left theirs, to
    end, and those that are not ours to look at.
    """

    groups: tuple[_Group, ...]
    leaving: tuple[int, ...]
    hidden: tuple[int, ...]

    def of(self, environment: Environment) -> tuple[Process, ...]:
        """The processes of an environment, found also where its state file is lost.

        Those in mount namespaces of their own (a sandbox started inside) count too: they keep the overlay mounted.
        """
        pids = [pid for group in self.groups_of(environment) for pid in group.pids]
        if environment.by_root and os.geteuid() != 0:
            # Of root's, by way of sudo, only the mounts can be read, and that nobody has mapped ids for it.
            own = _uid_map("self")
            tables = ((pid, _mount_table(pid)) for pid in self.hidden if _uid_map(pid) == own)
            pids += [pid for pid, table in tables if environment.source in _sources(table)]
        return described(pids)

    def of_damaged(self, environment_path: Path) -> tuple[Process, ...]:
        """The processes of an environment whose name in mount tables is lost: those where its state file says."""
        state = read_state(environment_path)
        groups = [group for group in self.groups if state is not None and group.mounts.identity == state.namespace]
        ours = [group for group in groups if group.mounts.kin in ("own", "child") and group.sources(thorough=True)]
        return described([pid for group in ours for pid in group.pids])

    def groups_of(self, environment: Environment) -> list[_Group]:
        """The mount namespaces that have an environment's overlay."""
        return self.held(environment, read_state(environment.path))

    def held(self, environment: Environment, state: State | None) -> list[_Group]:
        """The same for an environment whose state file says this."""
        sure = [group for group in self.groups if self._is_of(group, environment, state)]
        if not environment.by_root or os.geteuid() != 0:
            return sure
        # A user namespace that a user of an environment of real root makes inside is that user's, so everybody could
        # have made it; but nobody else can have the upper mounted.
        others = [group for group in self.groups if group.mounts.kin == "foreign"]
        claiming = [group for group in others if environment.source in group.sources(thorough=False)]
        if not claiming or sure:
            return sure
        from sysenv_ns.kernel import overlay  # seldom

        return claiming if overlay.is_mounted(environment.upper) else sure

    def is_session(self, group: _Group, environment: Environment, state: State | None) -> bool:
        """Whether it is a mount namespace that the tool has made for a session of this environment."""
        thorough = state is not None and group.mounts.identity == state.namespace
        return group.mounts.kin == _kin_of_sessions(environment) and environment.source in group.sources(thorough)

    def _is_of(self, group: _Group, environment: Environment, state: State | None) -> bool:
        if self.is_session(group, environment, state):
            return True
        if group.mounts.kin != "descendant" or environment.by_root:
            return False
        # Whoever lives in one environment can name a mount as another's; it is in the user namespace of its own.
        user_namespace = group.mounts.user_namespace
        return (state is None or state.user_namespace == user_namespace) and environment.source in group.sources(False)

    def ending(self) -> list[int]:
        """Those that have left their namespace by now."""
        pids = (pid for group in self.groups for pid in group.pids)
        return [*self.leaving, *(pid for pid in pids if not os.path.exists(f"/proc/{pid}/ns/mnt"))]


@contextmanager
def scan() -> Iterator[Scan]:
    """Look at all processes."""
    own = os.stat("/proc/self/ns/mnt").st_ino
    groups: dict[int, _Group] = {}
    foreign: list[_Group] = []
    leaving: list[int] = []
    hidden: list[int] = []
    try:
        for pid in numbers():
            try:
                inode = os.stat(f"/proc/{pid}/ns/mnt").st_ino
                if inode == own:
                    continue
                if inode not in groups:
                    mounts = Mounts.of(pid)  # held from here on, its inode is no other's
                    if mounts.kin == "foreign":  # as root sees all: whoever holds it keeps it mounted
                        mounts.close()
                        foreign.append(_Group(mounts, [pid]))
                        continue
                    inode = os.fstat(mounts.descriptor).st_ino
                    groups[inode] = _Group(mounts, [])
                groups[inode].pids.append(pid)
            except FileNotFoundError:
                leaving.append(pid)
            except OSError:
                hidden.append(pid)
        yield Scan((*groups.values(), *foreign), tuple(leaving), tuple(hidden))
    finally:
        for group in groups.values():
            if not group.kept:
                group.mounts.close()


def processes(environment: Environment) -> tuple[Process, ...]:
    """The processes of one environment; for several, `scan` once."""
    with scan() as seen:
        return seen.of(environment)


def _uid_map(pid: int | str) -> bytes:
    """The id map of a process's user namespace as this process sees it (user_namespaces(7)); empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/uid_map").read_bytes()
    except OSError:
        return b""


def _mount_table(pid: int) -> bytes:
    """The mounts that a process sees; none when it is gone or not ours to look at."""
    try:
        return Path(f"/proc/{pid}/mountinfo").read_bytes()
    except OSError:
        return b""


def _sources(table: bytes) -> set[str]:
    """The environments whose overlay is in a mount table."""
    prefix = SOURCE_PREFIX.encode()
    lines = [line for line in table.split(b"\n") if prefix in line]  # of nearly all processes none: spare the parsing
    mounts = (mount for mount in mountinfo.parse(b"\n".join(lines)) if mount.source.startswith(SOURCE_PREFIX))
    return {mount.source for mount in mounts if _is_overlay(mount)}


def _is_overlay(mount: mountinfo.Mount) -> bool:
    """Whether it can be the root of an environment.

    Everybody may mount a FUSE file system of any name and subtype by fusermount3(1), and it spreads from the host's
    namespace to others, also to environments. But its option user_id is then whoever did that; ours is of root.
    """
    return mount.fstype == "overlay" or (mount.fstype == _FUSE and _OF_ROOT in mount.super_options)


def here() -> frozenset[str]:
    """The overlays of the environment that this process itself lives in, whatever its variables say (sudo clears them).

    None outside.
    """
    return frozenset(_sources(_mount_table(os.getpid())))


def inside() -> bool:
    """Whether this process itself lives in an environment."""
    return bool(here())


def neighbours() -> tuple[Process, ...]:
    """The processes in this one's own mount namespace, as far as they are this user's to look at."""
    own = os.stat("/proc/self/ns/mnt").st_ino
    found = []
    for pid in numbers():
        with suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/mnt").st_ino == own:
                found.append(pid)
    return described(found)


def first(environment: Environment) -> tuple[Process, ...]:
    """The process that has started an environment, if it lives: all that can be seen of it from inside another one."""
    state = read_state(environment.path)
    alive = state is not None and started_at(state.pid) == state.start_time
    return described([state.pid]) if state is not None and alive else ()


def refuse(name: str, processes: tuple[Process, ...], hint: str) -> None:
    """Raise SysenvError when there are processes."""
    if processes:
        raise SysenvError(f"{name} is running: {_listed(processes)}", hint)


def _listed(processes: Sequence[Process]) -> str:
    """The first few of them, for a message."""
    return ", ".join(f"{process.pid} ({quoted(process.command)})" for process in processes[:5])
