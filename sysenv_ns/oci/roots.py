"""Mounts what an image is made of: the root of an environment and, without its changes, what it sees of the host."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from sysenv_ns.basics import opened
from sysenv_ns.drivers import driver
from sysenv_ns.environment import config, directory, state
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.files.upper import Upper
from sysenv_ns.host import signs, standins
from sysenv_ns.kernel import namespace, operations, syscalls
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.kernel.overlay import UnionMount
from sysenv_ns.oci import contents
from sysenv_ns.oci.members import ImageWalk
from sysenv_ns.records import dataclass, replace
from sysenv_ns.reporter import Reporter

_WHOLE, _HOST = "root", "host"


@dataclass(frozen=True)
class Roots:
    """The two roots: walks over what of them goes into an image, and where the environment's is mounted."""

    whole: ImageWalk
    host: ImageWalk
    place: str


def mount(store: Store, environment: Environment, reporter: Reporter) -> Roots:
    """Mount both in new namespaces of this process, which ends with it. Raises SysenvError, OSError.

    Until then the environment counts as running, so that nothing of its layers is deleted.
    """
    for path in (environment.work, environment.root):  # nothing is kept in them
        path.mkdir(mode=0o755, exist_ok=True)
    own = driver.of(environment)
    own.agree(store, reporter.ask, by_name=True)
    before = signs.of_programs()  # before the base is compared with the host
    host = config.host(store, environment)
    points = own.points(host)
    with own.prepare(store, environment, host, reporter) as prepared:
        namespace.enter(environment.id_map)
        overlays = [operation for operation in prepared.plan if isinstance(operation, UnionMount)]
        memory = environment.root
        _mount_memory(memory)
        plans = {_WHOLE: overlays, _HOST: list(_without_changes(overlays, environment, points, memory))}
        for name, plan in plans.items():
            (memory / name).mkdir()
            os.close(operations.execute(plan, str(memory / name), reporter.operation))
        state.record(environment, prepared.layers, before, prepared.base)
    added = (*own.additions(environment.id_map, host), standins.prompt(environment.name))
    rules = contents.of_environment(host, added)
    upper = Upper(environment.changes(points), own.marks)
    whole = str(memory / _WHOLE)
    return Roots(ImageWalk(whole, upper, rules), ImageWalk(str(memory / _HOST), Upper((), own.marks), rules), whole)


def _mount_memory(place: Path) -> None:
    """A file system for mount points, and for the upper directories of overlays in which nothing is written."""
    with opened(syscalls.new_tmpfs()) as memory:
        syscalls.attach(memory, str(place))


def _without_changes(
    overlays: Sequence[UnionMount], environment: Environment, points: Sequence[str], memory: Path
) -> Iterator[UnionMount]:
    """The same overlays with empty upper directories, and without the environment's frozen layers."""
    uppers = (path for point in points for path in environment.uppers(directory.upper(point))[1:])
    frozen = {name for path in uppers for name in (str(path), os.path.realpath(path))}
    for number, overlay in enumerate(overlays):
        upper, work = memory / f"upper-{number}", memory / f"work-{number}"
        for path in (upper, work):
            path.mkdir(mode=0o755)
        if number:  # what it is mounted over looks like its upper directory
            _make_like(upper, overlay.lowers[-1])
        below = (path for path in overlay.lowers if not any(path == f or is_below(path, f) for f in frozen))
        yield replace(overlay, lowers=tuple(below), upper=str(upper), work=str(work))


def _make_like(directory: Path, model: str) -> None:
    status = os.stat(model)
    os.chown(directory, status.st_uid, status.st_gid)
    os.chmod(directory, stat.S_IMODE(status.st_mode))
    os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))
